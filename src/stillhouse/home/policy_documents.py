"""The organisation's own documents: facts, rules, terms, prices and its fleet. Which of them decide, and what is only a draft.

Covered: once they were adopted (a signed act, ``permission.acts.adoptions``), decisions read the bytes that the act names in the
vault; a file that is written, changed or removed afterwards changes nothing until it is adopted. Not covered: before the first
adoption the files decide as they are, so whoever can write them decides; ``status`` says so where there is a roster.
"""

import errno
import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from stillhouse.canon import digest_bytes
from stillhouse.errors import CorruptObject, StorageError, TermsError
from stillhouse.home.fleet import Fleet, parse_fleet
from stillhouse.home.plans.prices import Price, parse_prices
from stillhouse.home.settings import Settings
from stillhouse.nouns import PolicyAdoption
from stillhouse.permission.acts.act import ChainState
from stillhouse.permission.decide import Organisation, facts_of
from stillhouse.permission.rules import Rules, parse_rules
from stillhouse.permission.terms_registry import Registry, parse_versions, shipped
from stillhouse.vault.files import readable
from stillhouse.vault.objects import Objects

# [organisation] of config.toml: what differs from the defaults, as JSON.
ORGANISATION = "organisation.json"
RULES, PRICES, FLEET, TERMS = "policy.toml", "prices.toml", "fleet.toml", "terms/"
_TERMS_FILE = re.compile(r"terms/[A-Za-z0-9_][A-Za-z0-9_ .-]*\.toml")


class PolicyDocuments(NamedTuple):
    """Their bytes by name. ``place`` is where messages say that they are."""

    bytes: Mapping[str, bytes]
    place: str

    @property
    def organisation(self) -> Organisation:
        """The facts about it. Raises TermsError."""
        try:
            return msgspec.json.decode(self.bytes.get(ORGANISATION, b"{}"), type=Organisation)
        except msgspec.MsgspecError as failure:
            raise TermsError(f"{self._called(ORGANISATION)}: {failure}.") from failure

    @property
    def rules(self) -> Rules:
        """Its own rules. Raises RuleError."""
        return parse_rules(self.bytes.get(RULES, b""), self._called(RULES), facts_of(self.organisation))

    @property
    def registry(self) -> Registry:
        """The registry of terms with what the organisation read itself. Raises TermsError."""
        more = []
        for name in sorted(self.bytes):
            if name.startswith(TERMS):
                more += parse_versions(self._text(name), self._called(name))
        return shipped().with_more(more)

    @property
    def prices(self) -> tuple[Price, ...]:
        """Its own prices. Raises RecipeError."""
        return parse_prices(self.bytes.get(PRICES, b""), self._called(PRICES))

    @property
    def fleet(self) -> Fleet:
        """Its pools of GPUs, and what it would lend of them. Raises RuleError."""
        return parse_fleet(self.bytes.get(FLEET, b""), self._called(FLEET))

    def check(self) -> None:
        """Raises TermsError, RuleError, RecipeError where one of them cannot be relied on."""
        _ = self.organisation, self.rules, self.registry, self.prices, self.fleet

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each."""
        return {name: digest_bytes(data) for name, data in sorted(self.bytes.items())}

    def _called(self, name: str) -> str:
        return f"{self.place}/{name}"

    def _text(self, name: str) -> str:
        try:
            return self.bytes[name].decode("utf-8")
        except UnicodeDecodeError as failure:
            raise TermsError(f"{self._called(name)} cannot be read: {failure}.") from failure


class Drafts(NamedTuple):
    """The files of a home as they are now; ``problems`` says which of them cannot be read, and why."""

    documents: PolicyDocuments
    problems: tuple[str, ...]

    def whole(self) -> PolicyDocuments:
        """The documents, all of them. Raises TermsError where one cannot be read."""
        if self.problems:
            raise TermsError(f"{'; '.join(self.problems)}.", next_step="Correct or remove it.")
        return self.documents


def read_drafts(settings: Settings) -> Drafts:
    """The files of a home."""
    found, problems = {ORGANISATION: encode_organisation(settings.organisation)}, []
    paths = {RULES: settings.rules, PRICES: settings.prices, FLEET: settings.fleet}
    paths |= {f"{TERMS}{path.name}": path for path in sorted(settings.terms.glob("*.toml"))}
    for name, path in paths.items():
        if not path.is_symlink() and not path.exists():
            continue
        try:
            if not is_document(name):
                raise OSError(errno.EINVAL, "only letters, digits, space, dot, dash and underscore may be in its name")
            if not path.is_file():  # a pipe would be waited for
                raise OSError(errno.EINVAL, "it is no regular file")
            found[name] = path.read_bytes()
        except OSError as failure:
            problems.append(f"{readable(settings.home / TERMS / path.name)!r} cannot be read: {failure.strerror}")
    return Drafts(PolicyDocuments(found, str(settings.home)), tuple(problems))


def is_document(name: str) -> bool:
    """Is this the name of a document that decides?"""
    return name in (ORGANISATION, RULES, PRICES, FLEET) or bool(_TERMS_FILE.fullmatch(name))


def encode_organisation(organisation: Organisation) -> bytes:
    """Facts as a document. What is as it is by default stays out: a fact that a later version adds makes no difference."""
    given, usual = msgspec.to_builtins(organisation), msgspec.to_builtins(Organisation())
    said = {name: value for name, value in given.items() if value != usual[name]}
    return msgspec.json.encode(said, order="sorted")


def adopted(state: ChainState) -> PolicyAdoption | None:
    """What was adopted last; None where nothing was."""
    found = state.of(PolicyAdoption)
    return found[-1] if found else None


def in_force(settings: Settings, state: ChainState, objects: Objects) -> PolicyDocuments:
    """The documents that decide. Raises CorruptObject, TermsError where one of them cannot be read."""
    adoption = adopted(state)
    if adoption is None:
        return read_drafts(settings).whole()
    found = {}
    for name, digest in adoption.documents.items():
        try:
            found[name] = objects.get(digest)
        except (CorruptObject, StorageError) as failure:
            raise CorruptObject(
                f"{name}, as it was adopted, cannot be read: {failure.detail}",
                next_step="Get it back from a copy of the vault: `stillhouse vault verify` names what is missing.",
            ) from failure
    return PolicyDocuments(found, "adopted")


def differing(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """In which documents two sets differ, by their digests, in words."""
    lines = []
    for name in sorted(before.keys() | after.keys()):
        was, becomes = before.get(name), after.get(name)
        if was != becomes:
            lines.append(f"{name} {'is new' if was is None else 'is removed' if becomes is None else 'is changed'}")
    return lines
