"""What an import stores before it is written down: shards and indexes, and how far it is.

Objects of the vault that nothing names yet do no harm: the entry that names them comes last. Those of an import that is given up
stay where they are. After each complete shard a note in the home's cache says how far that was, so an import that was killed, or
whose disk was full, goes on there. The note holds counts and digests, and no words.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from stillhouse.canon import digest_plain, raw_digest
from stillhouse.conversations.row_turns import tokens_by_stamps
from stillhouse.datasets.content_tree import ContentTree
from stillhouse.datasets.corpora.corpus_reading import LeftOutRows
from stillhouse.datasets.distinct import Distinct
from stillhouse.datasets.filter import (
    ALLOWED,
    COMPLETE,
    DISTINCT,
    Candidate,
    content_digest_before_2026_12,
    content_of,
    kind_of,
)
from stillhouse.datasets.recognition import alias_of, turn_alias
from stillhouse.datasets.row_reader import ReadRow, asked_of, imported_candidate, same_as
from stillhouse.datasets.shards import DROPPED, ROWS, ShardWriter, candidate_of, read_shards
from stillhouse.datasets.version_files import StoredVersion
from stillhouse.datasets.versions import Counted, Index
from stillhouse.errors import StillhouseError
from stillhouse.home.row_index import IndexLine
from stillhouse.nouns import Decision, FunnelStep, Ground, StampSet
from stillhouse.vault.files import storage_errors, write_whole
from stillhouse.vault.objects import Objects


class Staged(NamedTuple):
    """A row that is ready to be stored."""

    row: ReadRow
    stamps: StampSet


class Counts(msgspec.Struct):
    """What is counted on the way, and kept in the note. Of each stamp set: rows that were read, those that the log had not, their
    tokens, rows that were kept, and the tokens of their answers.

    It counts only while the home knows rows by the same (``know``), and decides of the ``sets`` as it did.
    """

    lines: int = 0
    rows: int = 0
    candidates: int = 0
    shapes: dict[str, int] = {}
    dropped: dict[str, dict[str, int]] = {}
    read: dict[int, int] = {}
    new: dict[int, int] = {}
    tokens: dict[int, int] = {}
    kept: dict[int, int] = {}
    kept_tokens: dict[int, int] = {}
    left_out: dict[str, int] = {}
    examples: dict[str, list[str]] = {}
    recognised: dict[str, dict[str, int]] = {}
    files: dict[str, str] = {}
    index: list[str] = []
    know: str = ""
    sets: list[StampSet] = []
    decided: dict[int, str] = {}
    shortened: dict[str, int] = {}
    redacted: dict[str, int] = {}
    answer_tokens: dict[int, int] = {}
    has_several: bool = False


class Staging:
    """Takes rows in order, decides of each, and stores it."""

    def __init__(
        self,
        objects: Objects,
        vault: Objects,
        note: Path,
        still_holds: Callable[[Counts], bool],
        *,
        erasable: bool,
    ) -> None:
        """``objects`` take the words, the ``vault`` the index; ``note`` is where it is said how far this is, as long as that
        ``still_holds``.
        """
        self._objects, self._vault, self._note = objects, vault, note
        self._erasable = erasable
        self._begin(self._resumed(still_holds))
        try:
            self._seen_again()
        except (StillhouseError, KeyError, TypeError, ValueError):  # the note names what is none of its shards
            self._distinct.close()
            self._begin(Counts())

    def _begin(self, counts: Counts) -> None:
        self.counts = counts
        files = counts.files.items()
        self._rows, self._dropped = (
            ShardWriter(self._objects, kind, {name: digest for name, digest in files if name.startswith(kind)})
            for kind in (ROWS, DROPPED)
        )
        self._index = Index(self._vault, counts.index)
        self._tree, self._distinct = ContentTree(), Distinct()

    def close(self) -> None:
        """Let go of what was remembered."""
        self._distinct.close()

    def key(self, staged: Staged) -> tuple[str, str]:
        """The prompt of a row, and its key, as the log has them."""
        said, prompt = staged.row.read.said, staged.row.prompt
        reasoning = [said.reasoning] if said.reasoning else []
        if said.conversation is not None:
            key = digest_plain(["import", staged.row.content, staged.stamps.digest])
        else:
            key = digest_plain(["import", prompt, said.text, staged.stamps.digest, *reasoning])
        return self._objects.alias(prompt), self._objects.alias(key)

    def take(self, staged: Staged, prompt: str, key: str, decision: Decision, *, is_known: bool) -> bool:
        """Store a row. Returns whether that completed a shard: then all that was taken is safe. Raises StorageError."""
        row, counts, stamps = staged.row, self.counts, staged.stamps.id
        said = row.read.said
        counts.rows += 1
        counts.shapes[said.shape] = counts.shapes.get(said.shape, 0) + 1
        counts.read[stamps] = counts.read.get(stamps, 0) + 1
        task = (not self._erasable and said.id) or prompt.partition(":")[2][:16]
        candidate, tokens = imported_candidate(said, key, task, stamps), said.usage.completion_tokens
        is_new = self._distinct.is_new(key)
        step, reason = self._dropped_at(row, task, decision, is_new=is_new)
        if step == _SAME_ROW:
            return False
        counts.candidates += 1
        counted = max(0, said.usage.prompt_tokens) + max(0, tokens)
        if is_new and not is_known:
            counts.new[stamps] = counts.new.get(stamps, 0) + 1
            counts.tokens[stamps] = counts.tokens.get(stamps, 0) + counted
        self._index.add(self._line(candidate, row, step, reason, counted))
        if step:
            kinds = counts.dropped.setdefault(step, {})
            kind = kind_of(reason)
            kinds[kind] = kinds.get(kind, 0) + 1
            return self._dropped.add(candidate, step, reason, row.read.rest)
        self._tree.add(raw_digest(row.content))
        counts.kept[stamps] = counts.kept.get(stamps, 0) + 1
        counts.kept_tokens[stamps] = counts.kept_tokens.get(stamps, 0) + max(0, tokens)
        several = tokens_by_stamps(candidate.conversation) if candidate.conversation is not None else {}
        counts.has_several = counts.has_several or bool(several)
        for id, count in (several or {stamps: max(0, tokens)}).items():
            counts.answer_tokens[id] = counts.answer_tokens.get(id, 0) + count
        return self._rows.add(candidate, rest=row.read.rest)

    def save(self, lines: int, left_out: LeftOutRows, recognised: Mapping[str, dict[str, int]]) -> None:
        """Complete what is open, and note that so many lines are done. Raises StorageError."""
        self._rows.end_shard()
        self._dropped.end_shard()
        self._index.end_object()
        counts = self.counts
        counts.lines, counts.left_out, counts.examples = lines, dict(left_out.rows), left_out.examples
        counts.recognised, counts.files = dict(recognised), self._rows.stored | self._dropped.stored
        counts.index = self._index.stored
        with storage_errors(f"{self._note} could not be written"):
            self._note.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._note, msgspec.json.encode(counts))

    def stored(self) -> StoredVersion:
        """All of it, stored. Raises StorageError."""
        self._index.end_object()
        return StoredVersion(self._rows.end() | self._dropped.end(), tuple(self._index.stored))

    def counted(self) -> Counted:
        """What was counted of it, once all of it was taken."""
        counts = self.counts
        funnel, left = [FunnelStep("answers", counts.candidates, {})], counts.candidates
        for step in (COMPLETE, DISTINCT, ALLOWED):
            dropped = dict(sorted(counts.dropped.get(step, {}).items()))
            left -= sum(dropped.values())
            funnel.append(FunnelStep(step, left, dropped))
        return Counted(
            left, self._tree.root(), tuple(funnel), _by_name(counts.kept), _by_name(counts.kept_tokens),
            self._digest_before_2026_12, _by_name(counts.answer_tokens) if counts.has_several else {},
        )  # fmt: skip

    def _dropped_at(self, row: ReadRow, name: str, decision: Decision, *, is_new: bool) -> tuple[str, str]:
        """At which step a row is dropped, and why; empty where it is kept. One that is there already is none of either."""
        if row.incomplete:
            return (COMPLETE, row.incomplete) if is_new else (_SAME_ROW, "")
        first = self._distinct.first(row.same_as, name)
        if first is not None:
            return (DISTINCT, f"duplicate: the same code as sample 0 of {first}") if is_new else (_SAME_ROW, "")
        if decision.allowed:
            return "", ""
        return ALLOWED, f"{'quarantined' if Ground.REVOCATION in decision.grounds else 'denied'}: {decision.reason}"

    def _line(self, candidate: Candidate, row: ReadRow, step: str, reason: str, tokens: int) -> IndexLine:
        content, marks = row.content, row.marks
        aliases = [turn_alias(self._objects, mark) for mark in sorted(marks.earlier)]
        if not self._erasable:
            return IndexLine(
                candidate.key, content, candidate.stamps, step, reason, marks.own.question, marks.own.answer, marks.code,
                tuple(aliases), tokens,
            )  # fmt: skip
        if marks.own.answer:  # how it is known again while its key exists
            aliases.append(alias_of(self._objects, marks.own))
        reason = reason.partition(":")[0]  # whose particulars quote the row
        content = self._objects.alias(content)
        return IndexLine(
            candidate.key, content, candidate.stamps, step, reason, aliases=tuple(aliases), tokens=tokens
        )  # fmt: skip

    def _resumed(self, still_holds: Callable[[Counts], bool]) -> Counts:
        """How far an earlier process was; nothing where a part of that is gone."""
        try:
            counts = msgspec.json.decode(self._note.read_bytes(), type=Counts)
        except (OSError, msgspec.MsgspecError):
            return Counts()
        there = all(self._objects.exists(digest) for digest in counts.files.values())
        there = there and all(self._vault.exists(digest) for digest in counts.index)
        return counts if there and still_holds(counts) else Counts()

    def _seen_again(self) -> None:
        """Remember the rows of an earlier process."""
        for name, digest in self.counts.files.items():
            for row in read_shards(self._objects, [digest]):
                candidate = candidate_of(row)
                self._distinct.is_new(candidate.key)
                if row.get("step") not in (COMPLETE, DISTINCT):
                    self._distinct.first(same_as(candidate, asked_of(candidate)), candidate.task.id)
                if name.startswith(ROWS):
                    self._tree.add(raw_digest(content_of(candidate)))

    def _digest_before_2026_12(self) -> str:
        names = [digest for name, digest in self._rows.stored.items() if name.startswith(ROWS)]
        return content_digest_before_2026_12([candidate_of(row) for row in read_shards(self._objects, names)])


_SAME_ROW = "the same row"


def _by_name(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(id): count for id, count in sorted(Counter(counts).items(), key=lambda item: str(item[0]))}
