"""What is known of hosts and weights: a declaration that contradicts it is refused."""

import functools
import re
import tomllib
from importlib import resources
from urllib.parse import urlsplit

import msgspec

from stillhouse.errors import TeacherContradiction
from stillhouse.nouns import Channel, Teacher, TeacherKind
from stillhouse.permission.terms_registry import document_id, shipped


class KnownHost(msgspec.Struct, frozen=True):
    """A host (or, with a leading dot, all hosts below it): through it come models of ``lab`` ("" = of many labs)."""

    host: str
    channel: Channel
    lab: str = ""
    services: tuple[str, ...] = ()


class KnownWeights(msgspec.Struct, frozen=True):
    """Weights that were looked at."""

    digest: str
    name: str
    lab: str
    terms: str


class KnownLab(msgspec.Struct, frozen=True):
    """How a lab's models are called: ``owner/model``, or names that begin so."""

    name: str
    owners: tuple[str, ...]
    prefixes: tuple[str, ...] = ()


class _Known(msgspec.Struct, frozen=True):
    host: list[KnownHost]
    weights: list[KnownWeights]
    lab: list[KnownLab]


OFFICIAL_URLS = {
    TeacherKind.OPENAI: "https://api.openai.com/v1",
    TeacherKind.ANTHROPIC: "https://api.anthropic.com",
}


def address_of(teacher: Teacher) -> str:
    """Where a teacher is asked: its own address, else the lab's official one; empty for what is on this machine."""
    return teacher.base_url or OFFICIAL_URLS.get(teacher.kind, "")


@functools.cache
def _known() -> _Known:
    text = resources.files(__package__).joinpath("known.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _Known)


def known_host(base_url: str) -> KnownHost | None:
    """What is known of the host of an address."""
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    for known in _known().host:
        if host == known.host.lstrip(".") or (known.host.startswith(".") and host.endswith(known.host)):
            return known
    return None


def known_provider(name: str) -> KnownHost | None:
    """What is known of a provider by its name: how a host is called, or whose it is."""
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    for known in _known().host:
        parts = known.host.lstrip(".").split(".")
        if plain and (plain == known.lab or plain in parts):
            return known
    return None


def lab_of_model(model: str) -> str:
    """Whose model that is, by its name; empty where the name does not say."""
    name = model.lower()
    owner = name.partition("/")[0] if "/" in name else ""
    labs = _known().lab
    for lab in labs:
        if owner in lab.owners or (not owner and any(_begins(name, prefix) for prefix in lab.prefixes)):
            return lab.name
    return owner


def is_known_model(model: str) -> bool:
    """Is it called like a model of a lab that is known, and nothing else besides?"""
    plain = all(letter.isascii() and (letter.isalnum() or letter in "-._:/@") for letter in model)
    return plain and lab_of_model(model) in {lab.name for lab in _known().lab}


def fold(name: str) -> str:
    """A lab's or a model's name, however it is written."""
    return name.strip().casefold()


def known_labs() -> frozenset[str]:
    """The labs that this version knows."""
    return frozenset(lab.name for lab in _known().lab if lab.name)


def labs_in(model: str) -> frozenset[str]:
    """Every lab that a model's name points to, through whichever host it is named: ``us.anthropic.claude-3``,
    ``publishers/google/models/gemini``, ``databricks-claude-sonnet-4``, ``acme/gpt-4o``. A name may point to several.
    """
    name = fold(model)
    parts = [part for part in re.split(r"[/.:@\s]+|--", name) if part]
    tails = [part[place:] for part in parts for place in range(len(part)) if place == 0 or part[place - 1] == "-"]
    found = {
        lab.name
        for lab in _known().lab
        if lab.name
        and (
            any(part in lab.owners or part.partition("-")[0] in lab.owners for part in parts)
            or any(_begins(tail, prefix) for tail in tails for prefix in lab.prefixes)
        )
    }
    return frozenset(found | {fold(lab_of_model(name))}) - {""}


# Names that begin like a lab's and are not.
_OTHERS = ("gpt-neo", "gpt-j", "gpt-sw3", "gpt-nl")


def _begins(name: str, prefix: str) -> bool:
    """Does a name begin with a prefix that ends there: ``grok-3`` with ``grok``, ``grokking`` not, nor ``o100`` with ``o1``?"""
    if not name.startswith(prefix) or name.startswith(_OTHERS):
        return False
    rest = name[len(prefix) :]
    if not rest or prefix.endswith("-"):
        return True
    return not rest[0].isalpha() and not (prefix[-1].isdigit() and rest[0].isdigit())


def documents_of(known: KnownHost) -> tuple[str, ...]:
    """The documents that bind whoever uses a host: a service's commercial terms where it has them, else all of its own."""
    found: list[str] = []
    for service in known.services:
        documents = {version.document for version in shipped().versions if version.service == service}
        own = {"Commercial Terms"} & documents or documents
        found += sorted(document_id(service, document) for document in own)
    return tuple(found)


def known_weights(digest: str) -> KnownWeights | None:
    """What is known of weights by their digest."""
    return next((known for known in _known().weights if known.digest == digest), None)


def check_declaration(teacher: Teacher) -> None:
    """Raises TeacherContradiction where a teacher is declared to be what its host or its weights are known not to be."""
    host = known_host(teacher.base_url) if teacher.base_url else None
    if host is not None:
        personal = teacher.channel is Channel.PERSONAL  # stricter than what is known: nobody is misled
        if host.channel is not teacher.channel and not personal:
            raise TeacherContradiction(
                f"{teacher.name}: {host.host.lstrip('.')} is known as {host.channel}, but {teacher.channel} was declared."
            )
        bound = tuple(f"{service}/" for service in host.services)
        if bound and not any(terms.startswith(bound) for terms in teacher.terms):
            raise TeacherContradiction(
                f"{teacher.name}: use of {host.host.lstrip('.')} is bound by terms of {' or '.join(host.services)}, and "
                f"{', '.join(teacher.terms)} was declared."
            )
        if host.lab and host.lab != teacher.lab:
            raise TeacherContradiction(
                f"{teacher.name}: {host.host.lstrip('.')} belongs to {host.lab}, but {teacher.lab} was declared."
            )
    weights = known_weights(teacher.weights_digest)
    if weights is not None and (weights.lab != teacher.lab or weights.terms not in teacher.terms):
        raise TeacherContradiction(
            f"{teacher.name}: these weights are {weights.name} by {weights.lab} under {weights.terms}, "
            f"but {teacher.lab} under {', '.join(teacher.terms)} was declared."
        )
