"""The documentation is true: its commands run, and what it lists is what there is."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from stillhouse.cli.main import assemble
from stillhouse.home.settings import DEFAULT_CONFIG, ENVIRONMENT
from stillhouse.nouns import Use
from stillhouse.permission.terms_registry import shipped
from stillhouse.permission.verdict_table import TABLE
from stillhouse.runs import recipe
from tests.forkserver import LIGHT
from tests.processes import SERVER, server

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
    if "```console" in path.read_text(encoding="utf-8")
]


def console_blocks(text: str) -> list[str]:
    return re.findall(r"```console\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_commands_of_a_page_run(cli, sandboxed, page):
    scripts = [
        "\n".join(re.sub(r"^\$ ", "", line) for line in block.splitlines())
        for block in console_blocks(page.read_text())
    ]
    forked = f'{sys.executable} -S {SERVER} ask {server(LIGHT)} "$@"'
    script = f"set -e\nstillhouse() {{ {forked}; }}\n" + "\n".join(scripts)
    done = subprocess.run(
        ["bash", "-c", script], cwd=cli.folder, env=cli.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_library_page_runs(tmp_path):
    blocks = re.findall(
        r"```python\n(.*?)^```$", (ROOT / "docs" / "api.md").read_text(), flags=re.DOTALL | re.MULTILINE
    )
    assert len(blocks) > 4
    run = [sys.executable, "-W", "error", "-c", "\n".join(blocks)]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "True" in done.stdout


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = [page.name for page in ROOT.glob("docs/*.md") if page.name != "README.md"]
    assert [page for page in pages if f"]({page})" not in index] == []


def test_every_key_of_a_recipe_is_documented():
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    sections = {name: field for name, field in recipe.Recipe.__annotations__.items() if name != "folder"}
    for name, kind in sections.items():
        assert f"`[{name}]`" in page
        section = next(part for part in getattr(kind, "__args__", [kind]) if part is not type(None))
        for field in msgspec.structs.fields(section):
            assert f"`{field.name}`" in page, field.name


def test_every_recipe_that_comes_with_it_can_be_read():
    found = [*ROOT.glob("recipes/*.toml"), *ROOT.glob("src/stillhouse/runs/recipes/*.toml")]
    assert len(found) >= 3
    for path in found:
        assert recipe.read_recipe(path).train is not None, path


def test_every_setting_is_documented():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for name, meaning in ENVIRONMENT.items():
        assert f"`{name}`" in page
        assert meaning.partition(" ")[0] in page
    for key in re.findall(r"^#? ?(\w+) =", DEFAULT_CONFIG, flags=re.MULTILINE):
        assert key in page


def test_every_command_is_in_the_readme_or_its_pages():
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    commands = assemble()
    for command in commands.registered_commands:
        assert f"## stillhouse {command.callback.__name__}" in text
    for group in commands.registered_groups:
        assert f"## stillhouse {group.name}" in text


def test_promises_are_in_the_readme_and_have_a_file():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for file in (ROOT / "tests" / "promises").glob("test_*.py"):
        promise = file.stem.removeprefix("test_").replace("_", " ")
        assert promise in readme.lower().replace("**", "").replace(",", ""), promise


def test_no_file_is_too_long():
    for file in [*ROOT.glob("src/**/*.py"), *ROOT.glob("tests/**/*.py")]:
        lines = file.read_text(encoding="utf-8").count("\n")
        assert lines <= 600, f"{file}: {lines} lines"


def test_starting_is_quick_enough_to_be_asked_often():
    """No timing here: what would make it slow is named instead, and must not be loaded."""
    code = "import sys, stillhouse; sys.exit(str(len(sys.modules)) if 'torch' in sys.modules else 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_decision_table_is_the_one_in_force():
    page = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    lines = page.partition("<!-- table -->\n")[2].partition("<!-- end -->")[0].splitlines()
    written = {
        cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    }
    assert written.pop("verdict") == [str(use) for use in Use]
    written.pop("---")
    assert written == {str(verdict): [str(row[use]) for use in Use] for verdict, row in TABLE.items()}
    assert f"{len(shipped().versions)} dated facts" in page


def test_every_refusal_of_the_gateway_is_explained():
    """By its code, in the table of docs/gateway.md."""
    sources = (Path(__file__).parents[2] / "src" / "stillhouse" / "teachers" / "gateway").glob("*.py")
    codes = {code for file in sources for code in re.findall(r'Refusal\(\s*\d+,\s*"([a-z_]+)"', file.read_text())}
    assert len(codes) > 15
    page = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()
    assert sorted(code for code in codes if f"`{code}`" not in page) == []
