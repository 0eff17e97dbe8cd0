"""The registry of terms: dated facts in our own words, one TOML file per service, and what an organisation adds to them.

Which version governs a day is decided here, and nowhere else:

- a version counts from ``since``: its document's own date, else the day on which its text was first seen;
- between the day on which a text was last seen and the first sight of the next one, where that one names no date of its own,
  nobody knows which of the two held: both govern, and the stricter decides;
- two versions that count from the same day and disagree both govern, too;
- a day before the first version is governed by nothing, and nothing means no;
- where nobody knows the day, every version may have held, and the strictest decides.

What was not captured changes nothing: only texts that were read make versions, so a page that flickers flips no verdict.
"""

import functools
import itertools
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from importlib import resources

import msgspec

from stillhouse.errors import TermsError
from stillhouse.nouns import Use
from stillhouse.permission.verdict_table import TermsVerdict

_FOLDER = "terms"
# Providers change their terms every few months.
STALE_DAYS = 90
_DAY = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")


class Threshold(msgspec.Struct, frozen=True):
    """A duty that begins with so many users a month."""

    users: int
    duty: str


class TermsVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of one document.

    ``effective`` is the document's own date, ``observed`` the day on which the text was first seen and ``last_seen`` the last one
    on which it was, ``accepted`` the day on which the organisation agreed to it. ``uses`` are verdicts for uses that the
    document treats on their own. ``incorporates`` are documents (``service/document``) that it makes part of itself, which bind,
    too. ``text`` is the SHA-256 of the text (its first 16 hex digits) and ``span`` the characters that
    were read for the verdict, ``span_digest`` their SHA-256. ``confidence`` is ``read``, ``doubtful`` (read, and it can be
    read otherwise), ``seen in part`` or ``recollected`` (then ``unclear``).
    ``readings`` are what readers who did not see each other's came to, where there were several: the strictest counts.
    ``counts_from`` says when it began to count where its own date is not that day: a text that was changed under an old date.
    """

    service: str
    document: str
    verdict: TermsVerdict
    summary: str
    source: str
    effective: str = ""
    observed: str = ""
    last_seen: str = ""
    accepted: str = ""
    counts_from: str = ""
    uses: dict[Use, TermsVerdict] = {}
    conditions: tuple[str, ...] = ()
    duties: tuple[str, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    excluded_regions: tuple[str, ...] = ()
    incorporates: tuple[str, ...] = ()
    text: str = ""
    span: tuple[int, int] = (0, 0)
    span_digest: str = ""
    reviewer: str = ""
    readings: tuple[str, ...] = ()
    confidence: str = "read"

    @property
    def since(self) -> str:
        """The day from which it counts."""
        return self.counts_from or self.effective or self.observed

    @property
    def id(self) -> str:
        """``service/document@date``, or ``licence/id``."""
        return document_id(self.service, self.document) + (f"@{self.since}" if self.since else "")

    def is_stale(self, day: str) -> bool:
        """Was its text last seen so long before a day that it may have changed by then? A licence does not change."""
        seen = self.last_seen or self.observed
        if self.service == "licence" or not is_day(seen) or not is_day(day):
            return False
        return (date.fromisoformat(day) - date.fromisoformat(seen)).days > STALE_DAYS

    def verdict_for(self, use: Use) -> TermsVerdict:
        """What it says of one use."""
        return self.uses.get(use, self.verdict)


def is_day(text: str) -> bool:
    """Is this a day as stamps and entries write it (YYYY-MM-DD)? Days are compared as text, so nothing else is one."""
    return bool(_DAY.fullmatch(text))


def document_id(service: str, document: str) -> str:
    """The id of a document without a date."""
    return f"{service}/{document}"


class Registry:
    """Versions by document, in order of the day from which they count."""

    def __init__(self, versions: Iterable[TermsVersion]) -> None:
        self.versions = tuple(sorted(versions, key=lambda version: (version.service, version.document, version.since)))
        self._documents: dict[str, list[TermsVersion]] = {}
        for version in self.versions:
            self._documents.setdefault(document_id(version.service, version.document), []).append(version)

    def of(self, terms: str) -> tuple[TermsVersion, ...]:
        """All versions of a document; ``terms`` may carry a date."""
        return tuple(self._documents.get(terms.partition("@")[0], ()))

    def of_service(self, service: str) -> tuple[TermsVersion, ...]:
        """All versions of all documents of a service, however its name is written."""
        wanted = service.strip().casefold()
        return tuple(version for version in self.versions if version.service.casefold() == wanted)

    def governing(self, terms: str, day: str) -> tuple[TermsVersion, ...]:
        """What governed a day: one version mostly, several where the stricter must decide, none where nothing is known.

        ``terms`` may carry a date: it names the document, and the day decides. Without a day any may have held, so all do.
        """
        versions = self.of(terms)
        if not is_day(day):
            return versions
        past = [version for version in versions if version.since <= day]
        if not past:
            return ()
        governing = [version for version in past if version.since == past[-1].since]
        ahead = [version for version in versions if version.since > day]
        seen = governing[-1].last_seen
        if ahead and seen and day > seen and not (ahead[0].effective or ahead[0].counts_from):
            governing += [version for version in ahead if version.since == ahead[0].since]
        return tuple(governing)

    def latest(self, terms: str, day: str) -> TermsVersion | None:
        """The version that counts by its date alone; None where nothing is known of that time."""
        past = [version for version in self.of(terms) if not day or version.since <= day]
        return past[-1] if past else None

    def contradictions(self) -> tuple[str, ...]:
        """Documents of which two versions count from one day and disagree."""
        found = []
        for versions in self._documents.values():
            for before, after in itertools.pairwise(versions):
                if before.since == after.since and (before.verdict, before.uses) != (after.verdict, after.uses):
                    found.append(f"{after.id}: {before.verdict} and {after.verdict}")
        return tuple(found)

    def with_more(self, versions: Iterable[TermsVersion]) -> "Registry":
        """This registry and what an organisation read itself."""
        return Registry([*self.versions, *versions])


@functools.cache
def shipped() -> Registry:
    """What comes with this version of Stillhouse."""
    folder = resources.files(__package__).joinpath(_FOLDER)
    found: list[TermsVersion] = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            found += parse_versions(file.read_text(encoding="utf-8"), file.name)
    return Registry(found)


def parse_versions(text: str, name: str) -> list[TermsVersion]:
    """The versions of a TOML file. Raises TermsError, naming what is wrong."""
    try:
        content: Mapping[str, object] = tomllib.loads(text)
        versions = msgspec.convert(content.get("version", []), list[TermsVersion])
    except (ValueError, msgspec.ValidationError) as failure:
        raise TermsError(f"{name}: {failure}.") from failure
    for version in versions:
        for day in (version.effective, version.observed, version.last_seen, version.accepted, version.counts_from):
            if day and not is_day(day):
                raise TermsError(f"{name}: {day!r} of {version.id} is not a date (YYYY-MM-DD, in UTC).")
        if version.observed and version.last_seen and version.last_seen < version.observed:
            raise TermsError(f"{name}: {version.id} was last seen before it was first seen.")
        if version.confidence == "unread" or not version.summary:
            raise TermsError(
                f"{name}: {version.id} is a draft that was not read: complete verdict, summary, reviewer and confidence."
            )
        if not version.since and version.service != "licence":
            raise TermsError(f"{name}: {version.id} has no date.")
    return versions
