"""Every field that names an object is declared as one: a reference that is missed is data that is collected as garbage."""

import typing

import msgspec
import pytest

from stillhouse.canon import digest_bytes
from stillhouse.home import facts
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects
from tests.older_homes import unpacked

PATHS = [(kind, path) for kind in facts.KINDS for kept in kind.keeps for path in kept.paths]
# Entries that name objects without keeping them: what left, what was damaged; a manifest is kept where it was registered.
NOT_KEPT = (facts.Discarded, facts.Recovered, facts.Reclaimed, facts.Scrubbed, facts.Examined)


# Kinds that are younger than that home.
LATER = {facts.PolicyAdopted, facts.FoundNotACopy, facts.ModelSketched, facts.ComputeImported, facts.RowsImported}


@pytest.mark.parametrize("kind,path", PATHS, ids=lambda one: getattr(one, "__name__", one))
def test_every_field_that_names_an_object_is_found(kind, path):
    """A fact with another digest in that field names another object."""
    digests = [digest_bytes(b"1"), digest_bytes(b"2")]
    named = [{one.digest for one in facts.references(_fact(kind, path.split("."), digest))} for digest in digests]
    assert digests[0] in named[0] and digests[1] in named[1] and digests[0] not in named[1]


def test_every_object_that_an_entry_of_a_real_home_names_is_declared(tmp_path):
    """By the values: whatever says the digest of an object that is there must keep it, or stand above with the reason."""
    cli = unpacked("home-1", tmp_path)
    objects = Objects(LocalBackend(cli.home / "objects"))
    log, there = Log(cli.home / "log", objects), set(objects.list())
    seen, missed = set(), set()
    for writer in log.writers():
        for entry in log.read(writer):
            fact = facts.decode(entry.payload)
            named = {one.digest for one in facts.references(fact)}
            said = {text for text in _texts(msgspec.to_builtins(fact)) if text in there}
            seen |= {type(fact)} if said & named else set()
            missed |= {(type(fact).__name__, text) for text in said - named if not isinstance(fact, NOT_KEPT)}
    # These are kept by the fact that made them: a dataset's files, a snapshot.
    assert {name for name, _ in missed} == set()
    assert seen == {kind for kind in facts.KINDS if kind.keeps} - LATER, "the home has one of each of then"


def _texts(value):
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in _texts(one)]
    if isinstance(value, list | tuple):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []


def _fact(kind, path, digest):
    values = {}
    for field in msgspec.structs.fields(kind):
        if field.name == path[0]:
            values[field.name] = _holding(field.type, path[1:], digest)
        elif field.required:
            values[field.name] = _any(field.type)
    return kind(**values)


def _holding(kind, path, digest):
    if path:
        return _fact(kind, path, digest)
    return {"a": digest} if typing.get_origin(kind) is dict else digest


def _any(kind):
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind(**{field.name: _any(field.type) for field in msgspec.structs.fields(kind) if field.required})
    return (typing.get_origin(kind) or kind)()
