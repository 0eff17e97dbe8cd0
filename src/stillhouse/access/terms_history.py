"""Terms as of a day, their changes beside what was made under them, and archives of them."""

import itertools
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from stillhouse.access.changes import utc_day
from stillhouse.errors import UnknownName, UsageError
from stillhouse.home.ledger import answer_queries, origin_queries, training_queries
from stillhouse.home.open_home import Home
from stillhouse.nouns import Channel, Origin, Stamp, Use
from stillhouse.permission.decide import Door, Policy
from stillhouse.permission.terms_archive import Capture, Proposal, is_about_privacy, proposals
from stillhouse.permission.terms_registry import Registry, TermsVersion, document_id
from stillhouse.vault.files import storage_errors

_TEXT_FILES = (".md", ".txt")


class Proposals(msgspec.Struct, frozen=True):
    """What an archive proposes. ``left_out`` are documents that are about personal data."""

    documents: int
    texts: int
    unreadable: int
    left_out: tuple[str, ...]
    proposals: tuple[Proposal, ...]


def as_of(policy: Policy, service: str, document: str, date: str, use: Use) -> dict[str, Any]:
    """What a document said on a day, and the decision that follows. Raises UsageError for what is not a date."""
    day = utc_day(date, "--date")
    terms = document_id(service, document)
    registry = policy.registry
    version = registry.latest(terms, day)
    stamp = Stamp(
        Origin.TEACHER, lab=service, channel=Channel.OFFICIAL, terms=(terms,), day=day, purpose=str(Use.TRAIN)
    )
    decision = policy.check(Door.USE, [stamp], use)
    reason = decision.reason
    if not registry.of(terms):
        near = sorted({document_id(v.service, v.document) for v in registry.of_service(service)})
        reason += (
            f" (the registry has {', '.join(near)})" if near else " (no document of that service is in the registry)"
        )
    return {
        "verdict": str(version.verdict_for(use)) if version else "unknown",
        "decision": "allow" if decision.allowed else "deny",
        "version": version.id if version else None,
        "effective": version.effective if version else None,
        "observed": version.observed if version else None,
        "reason": reason,
        "duties": list(decision.duties),
        "conditions": list(version.conditions) if version else [],
        "governing": [known.id for known in registry.governing(terms, day)],
    }


def differences(home: Home, terms: str, since: str) -> list[dict[str, Any]]:
    """Each change of a document, and the records and models that were made under the version before and after it."""
    day = utc_day(since, "--since")
    versions: dict[str, list[TermsVersion]] = {}
    for version in home.policy.registry.versions:
        name = document_id(version.service, version.document)
        if not terms or terms.partition("@")[0] in (version.service, name):
            versions.setdefault(name, []).append(version)
    if terms and not versions:
        services = ", ".join(sorted({version.service for version in home.policy.registry.versions}))
        raise UnknownName(f"The registry does not know {terms!r}.", next_step=f"It knows documents of: {services}.")
    counted = answer_queries.answers_by_stamps(home.ledger)
    sets = origin_queries.stamp_sets(home.ledger)
    models = training_queries.models(home.ledger)
    found = []
    for name, known in versions.items():
        for before, after in itertools.pairwise(known):
            if after.since < day:
                continue
            under_old = _made_under(sets, name, before.since, after.since)
            under_new = _made_under(sets, name, after.since, "")
            found.append(
                {
                    "document": name,
                    "date": after.since,
                    "from": str(before.verdict),
                    "to": str(after.verdict),
                    "flips": before.verdict is not after.verdict,
                    "summary": after.summary,
                    "records_before": sum(counted.get(id, 0) for id in under_old),
                    "records_after": sum(counted.get(id, 0) for id in under_new),
                    "models": [model.label for model in models if model.stamps in under_old | under_new],
                }
            )
    return sorted(found, key=lambda one: (str(one["date"]), str(one["document"])))


def propose_entries(registry: Registry, folder: Path, to: Path | None) -> Proposals:
    """Read an archive, propose entries, and write each side by side for a reviewer. Raises UsageError, StorageError."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder.")
    captures: list[Capture] = []
    unreadable = 0
    left_out: set[str] = set()
    for capture in read_archive(folder):
        if capture is None:
            unreadable += 1
        elif is_about_privacy(capture.document):
            left_out.add(document_id(capture.service, capture.document))
        else:
            captures.append(capture)
    if not captures:
        raise UsageError(
            f"{folder} holds no archive of terms.",
            next_step="Expected is Service/Document/DATE.md, or a git repository with Service/Document.md.",
        )
    found = proposals(captures, registry)
    if to is not None:
        for proposal in found:
            _write(to, proposal, registry)
    documents = len({(capture.service, capture.document) for capture in captures})
    return Proposals(documents, len(captures), unreadable, tuple(sorted(left_out)), tuple(found))


def read_archive(folder: Path) -> Iterator[Capture | None]:
    """The texts of an archive in Open Terms Archive's layouts: a release (``Service/Document/DATE.md``), or a git repository, a
    bare mirror too, whose every commit is one text of one document. None stands for a file that cannot be read.
    """
    if (folder / ".git").exists() or ((folder / "HEAD").is_file() and (folder / "objects").is_dir()):
        yield from _repository(folder)
        return
    for file in sorted(folder.glob("*/*/*")):
        if file.suffix in _TEXT_FILES:
            day = _observed(file.stem)
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                yield None
                continue
            yield Capture(file.parts[-3], file.parts[-2], day, text) if day else None


def _repository(folder: Path) -> Iterator[Capture | None]:
    command = ["git", "-C", str(folder), "-c", "core.quotePath=false"]
    log = [*command, "log", "--reverse", "--format=%x00%H %aI", "--name-only", "--diff-filter=AM", "-z"]
    done = subprocess.run(log, capture_output=True, check=False)
    if done.returncode:
        raise UsageError(f"git cannot read {folder}: {done.stderr.decode(errors='replace').strip()[:200]}.")
    # One process for all texts: an archive has tens of thousands of commits.
    with subprocess.Popen([*command, "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None and reader.stdout is not None
        commit = moment = ""
        for line in (
            line for part in done.stdout.decode("utf-8", "surrogateescape").split("\x00") for line in part.split("\n")
        ):
            words = line.split(" ")
            if len(words) == 2 and len(words[0]) == 40:
                commit, moment = words
            elif line.endswith(_TEXT_FILES) and line.count("/") == 1:
                reader.stdin.write(f"{commit}:{line}\n".encode("utf-8", "surrogateescape"))
                reader.stdin.flush()
                header = reader.stdout.readline().split()
                if len(header) != 3 or header[1] != b"blob":
                    yield None
                    continue
                text = reader.stdout.read(int(header[2]) + 1)[:-1]
                service, _, name = line.partition("/")
                day = utc_day(moment, "a commit's time")
                yield Capture(service, name.rpartition(".")[0], day, text.decode("utf-8", "replace"))
        reader.stdin.close()


def _observed(stem: str) -> str:
    """The UTC day of a file's name, such as 2024-02-20T18-30-08Z or 2024-02-20; empty where it is none."""
    date, _, clock = stem.partition("T")
    text = f"{date}T{clock.replace('-', ':')}" if clock else date
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return (moment.astimezone(UTC) if moment.tzinfo else moment).date().isoformat()


def _made_under(sets: Any, name: str, start: str, end: str) -> set[int]:
    """The stamp sets with a stamp that names a document and was given in a span of days."""
    return {
        id
        for id, known in sets.items()
        for stamp in known.stamps
        if any(terms.partition("@")[0] == name for terms in stamp.terms)
        and stamp.day >= start
        and (not end or stamp.day < end)
    }


def _write(to: Path, proposal: Proposal, registry: Registry) -> None:
    """A page that shows both sides, and a draft whose verdict is the standing one, not a guess."""
    standing = registry.latest(proposal.document, proposal.observed)
    name = f"{proposal.document.replace('/', '-').replace(' ', '_')}-{proposal.observed}"
    gone = "\n".join(f"- ({p.start}-{p.end}) {p.words}" for p in proposal.dropped) or "- (nothing)"
    came = "\n".join(f"- ({p.start}-{p.end}) {p.words}" for p in proposal.added) or "- (nothing)"
    says = f"{standing.id}: {standing.verdict}. {standing.summary}" if standing else "nothing: this document is new"
    page = (
        f"# {proposal.document}, first seen {proposal.observed}\n\nThe registry says {says}\n\n## Gone\n\n{gone}\n\n"
        f"## New\n\n{came}\n\nRead both, then complete the draft beside this page (verdict, summary, reviewer, confidence), and "
        "move it into the home's folder `terms` under a name that ends in .toml; or throw it away.\n"
    )
    service, _, document = proposal.document.partition("/")
    span = (proposal.added[0].start, proposal.added[-1].end) if proposal.added else (0, 0)
    quoted = {
        key: msgspec.json.encode(value).decode() for key, value in {"service": service, "document": document}.items()
    }
    effective = f'effective = "{proposal.effective}"\n' if proposal.effective else ""
    draft = (
        f"# A draft for review; the verdict is the present one until the passages have been read.\n[[version]]\n"
        f"service = {quoted['service']}\ndocument = {quoted['document']}\n"
        f'verdict = "{standing.verdict if standing else "unclear"}"\nsummary = ""\n{effective}observed = "{proposal.observed}"\n'
        f'text = "{proposal.text}"\nspan = [{span[0]}, {span[1]}]\nsource = "Open Terms Archive"\nreviewer = ""\n'
        f'confidence = "unread"\n'
    )
    with storage_errors(f"{to} could not be written"):
        to.mkdir(parents=True, exist_ok=True)
        (to / f"{name}.md").write_text(page, encoding="utf-8")
        (to / f"{name}.toml.draft").write_text(draft, encoding="utf-8")
