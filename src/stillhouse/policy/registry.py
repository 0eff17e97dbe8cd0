"""The registry of terms: dated facts, one TOML file per service, in our own words."""

import functools
import tomllib
from importlib import resources

import msgspec

from stillhouse.policy.table import Verdict

_FOLDER = "terms"


class TermsVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one document.

    ``effective`` is the document's own date and ``observed`` the day on which the text was first seen; where the document
    gives none, the observed day counts. ``confidence`` is ``read`` (the text was) or ``recollected`` (then ``unclear``).
    """

    service: str
    document: str
    verdict: Verdict
    summary: str
    source: str
    effective: str = ""
    observed: str = ""
    duties: tuple[str, ...] = ()
    confidence: str = "read"

    @property
    def since(self) -> str:
        """The day from which it counts."""
        return self.effective or self.observed

    @property
    def id(self) -> str:
        """``service/document@date``, or ``licence/id``."""
        return document_id(self.service, self.document) + (f"@{self.since}" if self.since else "")


def document_id(service: str, document: str) -> str:
    """The id of a document without a date."""
    return f"{service}/{document}"


@functools.cache
def registry() -> tuple[TermsVersion, ...]:
    """All versions that ship with this Stillhouse, by service, document and date."""
    found: list[TermsVersion] = []
    for file in sorted(resources.files(__package__).joinpath(_FOLDER).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            content = tomllib.loads(file.read_text(encoding="utf-8"))
            found += msgspec.convert(content["version"], list[TermsVersion])
    return tuple(sorted(found, key=lambda version: (version.service, version.document, version.since)))


def resolve(terms: str, day: str) -> TermsVersion | None:
    """The version of a document that counted on a day; None where nothing is known of that time.

    ``terms`` may carry a date: it names the document, and the day decides. Without a day the latest counts.
    """
    name = terms.partition("@")[0]
    versions = [version for version in registry() if document_id(version.service, version.document) == name]
    past = [version for version in versions if not day or version.since <= day]
    return past[-1] if past else None
