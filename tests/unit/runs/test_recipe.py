"""Recipes: what is read, and what is refused by name."""

from decimal import Decimal

import pytest

from stillhouse.errors import RecipeError
from stillhouse.runs.recipe import parse_recipe

RECIPE = """
[teacher]
use = "mock"
[prompts]
file = "prompts.jsonl"
[collect]
samples = 2
budget = "5.00"
[dataset]
name = "example"
[train]
student = "smollm2-135m-instruct"
[eval]
suites = ["held-out", "humaneval"]
"""


def recipe(text, folder):
    return parse_recipe(text.encode(), "recipe.toml", folder)


def test_the_recipe_of_the_design_is_read(tmp_path):
    read = recipe(RECIPE, tmp_path)
    assert (read.teacher.use, read.collect.samples, read.budget) == ("mock", 2, Decimal("5.00"))
    assert read.suite == str(tmp_path / "prompts.jsonl")


def test_the_run_is_the_same_where_the_answers_are(tmp_path):
    read = recipe(RECIPE, tmp_path)
    assert recipe(RECIPE.replace("5.00", "9.00"), tmp_path).run == read.run, "a raised budget goes on"
    assert recipe(RECIPE.replace("samples = 2", "samples = 3"), tmp_path).run != read.run


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("samples = 2", "sample = 2", r"unknown key `sample` in \[collect\]"),
        ("samples = 2", "samples = 0", "samples must be at least 1"),
        ("samples = 2", 'samples = "two"', r"in \[collect.samples\]"),
        ("samples = 2", "temperature = -1", "may not be negative"),
        ('use = "mock"', "", r"missing key `use` in \[teacher\]"),
        ('"5.00"', '"five"', "budget must be an amount"),
        ('"5.00"', '"-5"', "at least 0"),
        ('file = "prompts.jsonl"', "", "either file or suite"),
        ('file = "prompts.jsonl"', 'file = "a"\nsuite = "stillhouse"', "either file or suite"),
        ('name = "example"', 'name = "a b"', "one word"),
        ("[teacher]", "[teacher", "not TOML"),
        ("[eval]", "[evil]", "unknown key `evil`"),
        ("[teacher]", 'folder = "/"\n[teacher]', "unknown field"),
    ],
)
def test_bad_recipes_are_named(tmp_path, old, new, message):
    with pytest.raises(RecipeError, match=message):
        recipe(RECIPE.replace(old, new, 1), tmp_path)
