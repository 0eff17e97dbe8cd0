"""Passages of archived terms that matter for training, and how they change from one text to the next. Pure.

A change is found by comparing passages as a reader would see them: cut into sentences, without layout, case and punctuation. What
it means is for a reviewer: the same ban can be put into other words, so nothing here comes to a verdict.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from stillhouse.permission.terms_registry import Registry, document_id

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

    ``text`` and ``standing_text`` are digests of the new text and of the one that the standing entry rests on.
    """

    document: str
    observed: str
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


def _of_document(name: str, texts: Sequence[Capture], registry: Registry) -> list[Proposal]:
    found = []
    read = {version.text for version in registry.of(name) if version.text}
    before: dict[str, Passage] = {}
    for number, capture in enumerate(texts):
        now = {_plain(passage.words): passage for passage in passages(capture.text)}
        dropped = tuple(passage for plain, passage in before.items() if plain not in now)
        added = tuple(passage for plain, passage in now.items() if plain not in before)
        before = now
        id_ = text_id(capture.text)
        if id_ in read or not (dropped or added or not number):
            continue
        standing = registry.latest(name, capture.observed)
        found.append(
            Proposal(
                name,
                capture.observed,
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
