"""Rows without the secrets in them: ``[github token]`` stands where one was, in every text of the row. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from blake3 import blake3

from stillhouse.conversations.redaction import Redaction, Secrets
from stillhouse.datasets.candidates import ROW_BYTES, CandidateSource, Head
from stillhouse.datasets.filter import Candidate


def redacted(candidate: Candidate) -> tuple[Candidate, list[str]]:
    """A candidate without its secrets, and their kinds."""
    redaction = Redaction()
    made = candidate._replace(
        task=msgspec.structs.replace(candidate.task, messages=redaction.messages(candidate.task.messages)),
        text=redaction.text(candidate.text),
        code=redaction.text(candidate.code),
        reasoning=redaction.text(candidate.reasoning),
        conversation=candidate.conversation and redaction.conversation(candidate.conversation),
    )
    return (made if redaction.kinds else candidate), redaction.kinds


class RedactedSource:
    """Candidates of a source, without the secrets in them; ``found`` counts rows by the kinds that they had."""

    def __init__(self, source: CandidateSource) -> None:
        self._source = source
        self._seen: set[int] = set()
        self.found: Counter[str] = Counter()

    @property
    def is_erasable(self) -> bool:
        """Can they be erased?"""
        return self._source.is_erasable

    def heads(self) -> Iterator[Head]:
        """Every candidate's head."""
        for head in self._source.heads():
            yield head._replace(row=blake3(head.row + b"redacted").digest(ROW_BYTES))

    def read(self, places: Sequence[int]) -> Iterator[Candidate]:
        """The candidates at some places."""
        for place, candidate in zip(places, self._source.read(places), strict=True):
            made, kinds = redacted(candidate)
            if kinds and place not in self._seen:
                self._seen.add(place)
                self.found.update(set(kinds))
            yield made


def redacted_in(sources: Iterable[CandidateSource]) -> dict[str, int]:
    """How many of the rows that were read had secrets, by their kinds: rows of an earlier version are not read again."""
    found = [source.found for source in sources if isinstance(source, RedactedSource)]
    return dict(sum(found, Counter[str]()))


def source_without(source: CandidateSource, secrets: Secrets) -> CandidateSource:
    """A source as its rows are to be looked at."""
    return RedactedSource(source) if secrets is Secrets.REDACT else source
