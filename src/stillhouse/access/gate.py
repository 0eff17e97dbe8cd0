"""May a job start on these datasets? Enforced where jobs start, since whoever has a key of their own goes round any gateway.

Covers: a dataset by its label, decided per stamp set as of now; a file, which must be, byte for byte, an export of this home, so
that rows that were swapped or added are found. Does not cover: what a job reads besides what it names here (``loader`` looks at
every row in the job itself), and whoever starts jobs past the scheduler.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from stillhouse.canon import digest_file
from stillhouse.errors import UsageError
from stillhouse.home.ledger import dataset_queries, origin_queries, permission_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.nouns import DatasetVersion, StampSet, Use
from stillhouse.permission.decide import Policy


class Gated(msgspec.Struct, frozen=True):
    """What was found of one subject. ``dataset`` is the version that it is; empty where it is none."""

    subject: str
    dataset: str
    allowed: bool
    rows: int
    denied: int
    reasons: tuple[str, ...]
    duties: tuple[str, ...] = ()
    waivers: tuple[str, ...] = ()


def look_at(ledger: Ledger, policy: Policy, subjects: Iterable[str], use: Use) -> list[Gated]:
    """Decide on each subject: a label, or a path to a file or a folder of files. Raises UnknownName, UsageError."""
    sets = origin_queries.stamp_sets(ledger)
    versions = {dataset.label: dataset for dataset in dataset_queries.datasets(ledger)}
    exports: dict[str, set[str]] = {}
    for export in permission_queries.exports(ledger):
        exports.setdefault(export.digest, set()).add(export.dataset)
    found = []
    for subject in subjects:
        path = Path(subject)
        if path.exists():
            for file in _files(path):
                labels = sorted(exports.get(digest_file(file), ()))
                found += [_version(policy, sets, versions[label], str(file), use) for label in labels]
                found += [] if labels else [_nobody_s(file)]
        else:
            found.append(_version(policy, sets, dataset_queries.dataset(ledger, subject), subject, use))
    return found


def _files(path: Path) -> list[Path]:
    """The files below a path. Raises UsageError for what leads elsewhere: a job would follow it."""
    below = sorted(path.rglob("*")) if path.is_dir() else [path]
    for entry in below:
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise UsageError(f"{entry} is a link, or no file.", next_step="Give the gate plain files and folders.")
    files = [entry for entry in below if entry.is_file()]
    if not files:
        raise UsageError(f"{path} holds no file.")
    return files


def _nobody_s(file: Path) -> Gated:
    reason = "not a recorded export of this home (digest unknown): the origin of its rows is not known, and unknown is denied"
    return Gated(str(file), "", False, 0, 0, (reason,))


def _version(policy: Policy, sets: Mapping[int, StampSet], dataset: DatasetVersion, subject: str, use: Use) -> Gated:
    found = policy.check_rows(dataset.stamp_sets, sets, use)
    reasons = [f"{rows} rows: {decision.reason}" for rows, decision in found.decided if not decision.allowed]
    reasons += [] if dataset.rows else ["the dataset is empty"]
    return Gated(
        subject, dataset.label, not reasons, dataset.rows, found.denied, tuple(reasons), found.duties, found.waivers
    )
