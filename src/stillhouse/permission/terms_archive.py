"""Passages of archived terms that matter for training, and how they change from one text to the next. Pure.

A change is found by comparing passages as a reader would see them: cut into sentences, without layout, case and punctuation. What
it means is for a reviewer: the same ban can be put into other words, so nothing here comes to a verdict.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from stillhouse.permission.terms_registry import Registry, document_id, is_day

# A passage is worth a look where it speaks of making models, or of what is done with outputs.
_MATTERS = re.compile(
    r"\b(train(s|ed|ing)?|distil\w*|fine-?tun\w*|machine[- ]learning|artificial intelligence|(ai|language|foundation) models?|"
    r"compet(e|es|ing|itive|itor\w*)|reverse[- ]engineer\w*|scrap(e|es|ing)|extract\w*|benchmark\w*|outputs?|completions?|"
    r"resell\w*|sublicens\w*|derivative\w*|api keys?)\b",
    re.IGNORECASE,
)
# And of these, one about models or competition must be among them: most sentences with "output" are about something else.
_POINTED = re.compile(
    r"\b(train(s|ed|ing)?|distil\w*|fine-?tun\w*|machine[- ]learning|(ai|language|foundation|other|competing) models?|"
    r"compet(e|es|ing|itive|itor\w*)|benchmark\w*)\b",
    re.IGNORECASE,
)
_PRIVACY = re.compile(r"privacy|cookie|data protection|data processing|imprint", re.IGNORECASE)
# So much of a text is its head, where it says of when it is.
_HEAD = 3000
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)"
)
_DATED = re.compile(
    r"\b(?:effective|last\s+(?:updated?|modified|revised)|updated|published|revised|release\s+date|in\s+force|version)[^.\n\d]{0,40}?"
    rf"(?:(?P<iso>\d{{4}}-\d{{2}}-\d{{2}})|(?P<month>{_MONTH})\.?\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}})"
    rf"|(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?\s+(?P<month2>{_MONTH})\.?,?\s+(?P<year2>\d{{4}}))",
    re.IGNORECASE,
)
# What is appended to a service's name, and names that it had before.
_SUFFIX = re.compile(r"(\.?ai|\.new|\.com|\.io|inc)$")
_FORMERLY = {"codeium": "windsurf"}
_SENTENCE = re.compile(r"(?<=[.;:!?])[*_)\]\"'”’]*\s+|\n+")
_LAYOUT = re.compile(r"\[([^\]]*)\]\([^)]*\)|[*_#>`|]+")


class Capture(NamedTuple):
    """A text of a document, and the UTC day on which it was first seen."""

    service: str
    document: str
    observed: str
    text: str


class Passage(msgspec.Struct, frozen=True):
    """A sentence that matters: where it stands in the text (characters), and what it says there."""

    start: int
    end: int
    words: str


class Proposal(msgspec.Struct, frozen=True):
    """A change to be looked at: what went and what came, side by side, and the entry that stands for that day.

    ``text`` and ``standing_text`` are digests of the new text and of the one that the standing entry rests on. ``effective`` is
    the date that the text gives itself, where one is found; a new one is a version of its own, though no passage changed.
    """

    document: str
    observed: str
    effective: str
    text: str
    standing: str
    standing_text: str
    dropped: tuple[Passage, ...]
    added: tuple[Passage, ...]


def passages(text: str) -> list[Passage]:
    """The sentences of a text that matter."""
    found = []
    start = 0
    for cut in [*(match.span() for match in _SENTENCE.finditer(text)), (len(text), len(text))]:
        sentence = text[start : cut[0]]
        if _MATTERS.search(sentence) and _POINTED.search(sentence):
            found.append(Passage(start, cut[0], sentence.strip()))
        start = cut[1]
    return found


def proposals(captures: Iterable[Capture], registry: Registry) -> list[Proposal]:
    """Every change of passages that matter between one text of a document and the next, the first text included.

    A text that is gone again at the next capture (a page that flickers) is compared with the one before it, and where that
    comes back nothing is proposed.
    """
    by_document: dict[str, list[Capture]] = {}
    for capture in captures:
        by_document.setdefault(document_id(capture.service, capture.document), []).append(capture)
    found: list[Proposal] = []
    for name, texts in sorted(by_document.items()):
        texts.sort(key=lambda capture: capture.observed)
        found += _of_document(name, _settled(texts), registry)
    return found


def text_id(text: str) -> str:
    """The first 16 hex digits of a text's SHA-256, as entries of the registry name texts."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_about_privacy(document: str) -> bool:
    """Is a document by its name about personal data? It says nothing about outputs and models."""
    return bool(_PRIVACY.search(document))


def own_date(text: str) -> str:
    """The date that a text gives itself, near its head; "" where none is found. Two dates there: the first one named as such."""
    head = _LAYOUT.sub(lambda match: match.group(1) or " ", text[:_HEAD])
    for match in _DATED.finditer(head):
        found = match.groupdict()
        if found["iso"]:
            return _day(found["iso"][:4], found["iso"][5:7], found["iso"][8:])
        month = found["month"] or found["month2"]
        return _day(
            found["year"] or found["year2"], str(_MONTHS.index(month[:3].lower()) + 1), found["day"] or found["day2"]
        )
    return ""


def _day(year: str, month: str, day: str) -> str:
    text = f"{year}-{int(month):02}-{int(day):02}"
    return text if is_day(text) else ""


def known_name(document: str, registry: Registry) -> str:
    """A document by the name that the registry has for its service: archives spell services differently."""
    service, _, rest = document.partition("/")
    if registry.of(document):
        return document
    known = {_folded(version.service): version.service for version in registry.versions}
    found = document_id(known.get(_folded(service), service), rest)
    return found if registry.of(found) else document


def _folded(service: str) -> str:
    plain = _SUFFIX.sub("", re.sub(r"[^a-z0-9.]+", "", service.lower())).replace(".", "")
    return _FORMERLY.get(plain, plain)


def _of_document(name: str, texts: Sequence[Capture], registry: Registry) -> list[Proposal]:
    found = []
    name = known_name(name, registry)
    versions = registry.of(name)
    read = {version.text for version in versions if version.text}
    dates = {version.effective for version in versions if version.effective}
    before: dict[str, Passage] = {}
    for number, capture in enumerate(texts):
        now = {_plain(passage.words): passage for passage in passages(capture.text)}
        dropped = tuple(passage for plain, passage in before.items() if plain not in now)
        added = tuple(passage for plain, passage in now.items() if plain not in before)
        before = now
        id_, effective = text_id(capture.text), own_date(capture.text)
        is_version = bool(effective) and effective not in dates
        dates |= {effective} - {""}
        if id_ in read or not (dropped or added or is_version or not number):
            continue
        standing = registry.latest(name, capture.observed)
        found.append(
            Proposal(
                name,
                capture.observed,
                effective,
                id_,
                standing.id if standing else "",
                standing.text if standing else "",
                dropped,
                added,
            )
        )
    return found


def _settled(texts: Sequence[Capture]) -> list[Capture]:
    """Texts without those that were gone again at the next capture while the one before came back."""
    kept: list[Capture] = []
    for number, capture in enumerate(texts):
        following = texts[number + 1].text if number + 1 < len(texts) else None
        flickers = bool(kept) and following == kept[-1].text and capture.text != kept[-1].text
        if not flickers and capture.text.strip():
            kept.append(capture)
    return kept


def _plain(sentence: str) -> str:
    """A sentence as it is read: no layout, no case, no punctuation."""
    text = _LAYOUT.sub(lambda match: match.group(1) or " ", sentence)
    return " ".join(re.findall(r"\w+", text.lower()))
