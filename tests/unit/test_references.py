"""What references what must know every field of every fact: a reference that is missed is data that is collected as garbage."""

import typing

import msgspec
import pytest

from stillhouse import facts
from stillhouse.canon import digest_bytes
from stillhouse.custody.references import references

# Every field that can hold a digest: text, or something with text in it. Those that name an object are marked; whoever adds a
# field to a fact, or to a noun within one, finds it here, decides whether it names an object, and if so teaches `references`.
OBJECTS = {
    "DatasetFormed.dataset.files",
    "RunOpened.recipe",
    "RunOpened.inputs",
    "RunOpened.code",
    "RunOpened.environment",
    "SnapshotTaken.snapshot",
    "Registered.manifest",
}


def fields(kind: type, prefix: str) -> list[str]:
    found = []
    for field in msgspec.structs.fields(kind):
        inner = list(_structs(field.type))
        name = f"{prefix}.{field.name}"
        found += [name, *(deeper for one in inner for deeper in fields(one, name))]
    return found


def _structs(kind: typing.Any) -> list[type]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [one for part in typing.get_args(kind) for one in _structs(part)]


def every_field() -> list[str]:
    return sorted(name for kind in facts.AnyFact.__args__ for name in fields(kind, kind.__name__))


def test_every_field_was_looked_at(request):
    known = (request.path.parent / "reference_fields.txt").read_text().splitlines()
    new = sorted(set(every_field()) - set(known))
    assert new == [], (
        "Do these name objects of the vault? Teach stillhouse.custody.references, then add them to reference_fields.txt "
        "(and to OBJECTS here, if so)."
    )
    assert sorted(set(known) - set(every_field())) == [], "these fields are gone: take them off the list"
    assert set(known) >= OBJECTS


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_every_field_that_names_an_object_is_found(name):
    """A fact with another digest in that field names another object."""
    kind = getattr(facts, name.split(".")[0])
    digests = [digest_bytes(b"1"), digest_bytes(b"2")]
    named = [{one.digest for one in references(_fact(kind, name.split(".")[1:], digest))} for digest in digests]
    assert digests[0] in named[0] and digests[1] in named[1] and digests[0] not in named[1]


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
