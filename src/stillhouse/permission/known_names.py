"""Names of labs and models, however they are written: whose is it? Pure, but for the list that ships beside this.

Everything that decides by a name folds it here first. Covers: case, width and other forms that Unicode holds for the same, routes
of client libraries (``azure/gpt-4o``, ``ft:gpt-4o:acme``, ``bedrock/us.anthropic.claude-3``), other names of a lab (``x-ai``,
``Claude``). Does not cover: a model under a name that says nothing, which only its host or its weights give away.
"""

import difflib
import functools
import re
import tomllib
import unicodedata
from collections.abc import Iterable
from importlib import resources

import msgspec

# What companies hang on their names, after a space or a comma.
_LEGAL_FORM = re.compile(
    r"[\s,]+(inc|incorporated|p\.?b\.?c|llc|l\.l\.c|ltd|limited|co|corp|corporation|gmbh|ag|sas|s\.a\.s|plc|opco llc|opco)\.?$"
)

# What stands between the words of a name: dashes of all lengths, lines, spaces.
_BETWEEN = re.compile(r"[\s_\u2010-\u2015\u2212]+")
# What a host or a lab hangs on a model's name for one of its versions, and for a way of running it or a version before.
_VERSION = re.compile(r"-\(?(\d{4}-?\d{2}-?\d{2}|\d{3,8}|latest|v\d+)([-@:.(\[)].*)?$")
_VARIANT = re.compile(
    r"-(preview|exp|thinking|x?high|low|minimal|search|eu|us|apac|global|fp\d+|nvfp4|bf16|int[48]|awq)([-@:.(\[].*)?$"
)
_VERSIONS_BELOW = re.compile(r"/versions?/[^/]+$")
# A family that people call by its own name alone.
_FAMILY = re.compile(r"^(sonnet|opus|haiku)-\d")
# gpt4o and gpt-4o, grok4 and grok-4: a family that its number follows.
_NUMBERED = re.compile(r"^(gpt|grok|claude|gemini|qwen|glm|llama|gemma|phi)(\d)")
# As many parameters: 7b, 1.5b, 8x7b. Not 1m: that is a length of context, as in claude-sonnet-4[1m].
_SIZE = re.compile(r"(?<![a-z0-9])(\d+x)?\d+(\.\d+)?b(?![a-z0-9])")
# Hosts that write their own name before a model's, with a dash.
_HOSTS_BEFORE = ("databricks", "openai", "azure")


class KnownLab(msgspec.Struct, frozen=True):
    """How a lab and its models are called; ``closed`` are patterns of those whose weights nobody else has."""

    name: str
    owners: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()


class _Names(msgspec.Struct, frozen=True):
    lab: list[KnownLab]
    others: tuple[str, ...]
    routes: frozenset[str]


@functools.cache
def _names() -> _Names:
    text = resources.files(__package__).joinpath("known_names.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _Names)


def fold(name: str) -> str:
    """A name without case, width, letters that show nothing, and what else Unicode writes in several ways."""
    shown = "".join(letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
    return shown.strip().casefold()


@functools.lru_cache(maxsize=4096)
def fold_lab(name: str) -> str:
    """A lab's own name, by whichever it is called, with its legal form or the cloud that it is asked through; a name that is not
    known stays as it is.
    """
    plain = fold(name)
    called = {plain, _LEGAL_FORM.sub("", plain), _LEGAL_FORM.sub("", plain).removeprefix("azure ")}
    return next((lab.name for lab in _names().lab if lab.name and called & set(lab.owners)), plain)


@functools.lru_cache(maxsize=4096)
def fold_model(name: str) -> str:
    """A model's name without the routes that client libraries put before it, its words joined by plain dashes."""
    plain = _BETWEEN.sub("-", fold(name))
    if plain.startswith("ft:"):
        plain = plain[3:].partition(":")[0].strip()  # ft:BASE:ORGANISATION:NAME:ID
    plain = _VERSIONS_BELOW.sub("", plain)
    parts = [stripped for part in plain.split("/") if (stripped := part.strip())]
    while len(parts) > 1 and parts[0] in _routes():
        del parts[: 2 if parts[0] == "accounts" and len(parts) > 2 else 1]
    return "/".join([part for part in parts[:-1] if part not in _routes()] + parts[-1:])


@functools.cache
def _routes() -> frozenset[str]:
    return frozenset(_BETWEEN.sub("-", route) for route in _names().routes)


def is_same_model(name: str, wanted: str) -> bool:
    """Is this that model, under whichever prefix a host gives it, or one of its dated versions?"""
    known = _words(bare_model(wanted))
    return any(_words(candidate) == known for candidate in _candidates(name))


def is_variant(name: str, wanted: str) -> bool:
    """Is this that model, or one that is called like it and runs otherwise or came before it (``-thinking``, ``-preview``)?"""
    known = _words(bare_model(wanted))
    return any(
        known in (_words(candidate), _words(bare_model(_VARIANT.sub("", candidate)))) for candidate in _candidates(name)
    )


def _words(name: str) -> tuple[str, ...]:
    """A name's words in one order, its number being one: hosts write claude-4-5-sonnet of claude-sonnet-4-5."""
    family = f"claude-{name}" if _FAMILY.match(name) else name
    return tuple(sorted(re.findall(r"\d+(?:-\d+)*(?![^-])|[^-]+", family)))


def _candidates(name: str) -> list[str]:
    """The names that a name may mean: whole, and without what a host puts before it."""
    given = fold_model(name)
    found = [given[place:] for place in range(len(given)) if place == 0 or given[place - 1] in "/."]
    found += [given.rpartition("--")[2]] if "--" in given else []
    found += [given.removeprefix(f"{host}-") for host in _HOSTS_BEFORE if given.startswith(f"{host}-")]
    return [bare_model(one) for one in found]


def bare_model(name: str) -> str:
    """A model's name without its owner, and without its date, version or tag: ``gpt-4o-2024-08-06`` is ``gpt-4o``."""
    own = fold_model(name).rpartition("/")[2].partition("[")[0]
    own = _VERSION.sub("", own.partition("@")[0].partition(":")[0] or own)
    return _NUMBERED.sub(r"\1-\2", own.replace(".", "-"))


@functools.lru_cache(maxsize=65_536)
def lab_of_model(model: str) -> str:
    """Whose model that is, by its name; empty where the name does not say. An owner that is not known is taken as the lab."""
    name = fold_model(model)
    owner, _, own = name.rpartition("/")
    owner = owner.partition("/")[0]
    by_name = _lab_called(own)
    if not owner:
        return by_name or next((fold_lab(part) for part in own.split(".")[:-1] if _is_owner(part)), "")
    lab = fold_lab(owner)
    # Client libraries say openai/ of every server that speaks its dialect; and nobody else has a closed model.
    if by_name and (lab == "openai" or by_name in closed_labs(own)):
        return by_name
    return "" if any(not known.name and owner in known.owners for known in _names().lab) else lab


def is_known_model(model: str) -> bool:
    """Is it called like a model of a lab that is known, and nothing else besides?"""
    plain = all(letter.isascii() and (letter.isalnum() or letter in "-._:/@") for letter in model)
    return plain and lab_of_model(model) in {lab.name for lab in _names().lab} - {""}


def unknown_labs(names: Iterable[str]) -> tuple[str, ...]:
    """Those of some names that no known lab is called, each with the one that was probably meant: in words."""
    known = known_labs() | {owner for lab in _names().lab for owner in lab.owners}
    found = []
    for name in names:
        if name != "*" and fold_lab(name) not in known:
            near = difflib.get_close_matches(fold(name), sorted(known), 1)
            found.append(f"no known lab is called {name!r}" + (f" ({fold_lab(near[0])}?)" if near else ""))
    return tuple(found)


def known_labs() -> frozenset[str]:
    """The labs that this version knows."""
    return frozenset(lab.name for lab in _names().lab if lab.name)


@functools.lru_cache(maxsize=65_536)
def labs_in(model: str) -> frozenset[str]:
    """Every lab that a model's name points to, through whichever host it is named: ``us.anthropic.claude-3``,
    ``publishers/google/models/gemini``, ``databricks-claude-sonnet-4``, ``acme/gpt-4o``. A name may point to several.
    """
    if not model:
        return frozenset()
    name = fold_model(model)
    parts = [part for part in re.split(r"[/.:@\s]+|--", name) if part]
    found = {
        lab.name
        for lab in _names().lab
        if lab.name
        and (
            any(part in lab.owners or part.partition("-")[0] in lab.owners for part in parts)
            or any(_begins(tail, prefix) for tail in _tails(parts) for prefix in lab.prefixes)
            or any(_begins(part, prefix) for part in parts for prefix in lab.begins)
        )
    }
    return frozenset(found | {lab_of_model(name)} | closed_labs(model)) - {""}


@functools.lru_cache(maxsize=65_536)
def closed_labs(model: str) -> frozenset[str]:
    """The labs that alone have a model of this name; none where it may be one with open weights."""
    name = fold_model(model)
    parts = [part for part in re.split(r"[/:@\s]+|--", name) if part and not _is_another(part)]
    parts += [piece for part in parts for piece in part.split(".") if piece and not _is_another(piece)]
    others = _names().others
    tails = [tail for tail in _tails(list(dict.fromkeys(parts))) if not tail.startswith(others)]
    return frozenset(lab for lab, closed in _closed() if any(map(closed.match, tails)))


@functools.cache
def _closed() -> list[tuple[str, re.Pattern[str]]]:
    """Of each lab that alone has some models: what their names match."""
    return [(lab.name, re.compile("|".join(f"(?:{one})" for one in lab.closed))) for lab in _names().lab if lab.closed]


def _is_another(part: str) -> bool:
    """Is it the name of somebody's own model, that only mentions a closed one? Those that are closed tell nobody their size."""
    return part.startswith(_names().others) or _SIZE.search(part) is not None


def _tails(parts: list[str]) -> list[str]:
    """Each part of a name, and what follows each dash in it."""
    return [part[place:] for part in parts for place in range(len(part)) if place == 0 or part[place - 1] in "-_"]


def _is_owner(part: str) -> bool:
    return any(lab.name and part in lab.owners for lab in _names().lab)


def _lab_called(name: str) -> str:
    """Whose a model without an owner is: the lab that a name begins like."""
    for lab in _names().lab:
        if any(_begins(name, prefix) for prefix in (*lab.prefixes, *lab.begins)):
            return lab.name
    return ""


def _begins(name: str, prefix: str) -> bool:
    """Does a name begin with a prefix that ends there: ``grok-3`` with ``grok``, ``grokking`` not, nor ``o100`` with ``o1``?"""
    if not name.startswith(prefix) or name.startswith(_names().others):
        return False
    rest = name[len(prefix) :]
    if not rest or prefix.endswith("-"):
        return True
    return not rest[0].isalpha() and not (prefix[-1].isdigit() and rest[0].isdigit())
