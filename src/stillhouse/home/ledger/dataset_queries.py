"""Dataset versions, and what each filter did with their rows."""

import functools
from collections.abc import Iterator

from sqlalchemy import and_

from stillhouse.canon import digest_value, tagged_digest
from stillhouse.errors import ForgedEntry, UnknownName
from stillhouse.home.facts import Placed
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.projection import tables
from stillhouse.home.ledger.selecting import all_rows, as_written, decode, ordered
from stillhouse.home.row_index import read_index
from stillhouse.nouns import DatasetVersion
from stillhouse.vault.objects import Objects


def datasets(ledger: Ledger) -> list[DatasetVersion]:
    """All dataset versions, by name and version. Of what is said of one, the first counts that its manifest digest stands for.

    Raises ForgedEntry where it stands for none: then the ledger was changed.
    """
    found: dict[str, DatasetVersion] = {}
    changed: dict[str, None] = {}
    for row in as_written(all_rows(ledger, ordered(tables.datasets))):
        dataset, holds = _read(row.dataset)
        if holds:
            found.setdefault(dataset.label, dataset)
        else:
            changed[dataset.label] = None
    for label in changed:
        if label not in found:
            raise ForgedEntry(
                f"(the dataset {label} in the ledger is not the one that its manifest digest stands for)",
                next_step="Run `stillhouse doctor --rebuild`: it makes the ledger again from the log.",
            )
    return sorted(found.values(), key=lambda dataset: (dataset.name, dataset.version))


@functools.lru_cache(maxsize=4096)
def _read(stored: str) -> tuple[DatasetVersion, bool]:
    """A dataset version as it is stored, and whether its manifest digest stands for it."""
    dataset: DatasetVersion = decode(stored, DatasetVersion)
    return dataset, manifest_digest(dataset) == dataset.manifest_digest


def manifest_digest(dataset: DatasetVersion) -> str:
    """What stands for a dataset version: its files, what was dropped, and how many rows each stamp set has."""
    return digest_value(
        [
            dataset.name,
            dataset.recipe,
            dataset.files,
            dataset.content_digest,
            dataset.funnel,
            dataset.stamp_sets,
            dataset.made,
            *([dataset.index] if dataset.index else []),
        ]
    )


def dataset_claims(ledger: Ledger) -> list[DatasetVersion]:
    """Every time that a dataset version was written down: nobody signs that, so a version can stand there with other files."""
    return [decode(row.dataset, DatasetVersion) for row in as_written(all_rows(ledger, ordered(tables.datasets)))]


def run_of_dataset(ledger: Ledger, dataset: DatasetVersion) -> str:
    """The run that formed a dataset version; empty where none did."""
    table = tables.datasets
    query = ordered(table).where(and_(table.c.name == dataset.name, table.c.version == dataset.version))
    return next((str(row.run) for row in all_rows(ledger, query)), "")


def datasets_of_run(ledger: Ledger, run: str, name: str) -> list[DatasetVersion]:
    """The versions of a name that a run formed, oldest first."""
    query = ordered(tables.datasets).where(and_(tables.datasets.c.run == run, tables.datasets.c.name == name))
    found = [decode(row.dataset, DatasetVersion) for row in all_rows(ledger, query)]
    return sorted(found, key=lambda dataset: dataset.version)


def dataset(ledger: Ledger, label: str) -> DatasetVersion:
    """One dataset version by ``name@version``, or the newest by ``name``. Raises UnknownName."""
    known = datasets(ledger)
    for version in reversed(known):
        if label in (version.label, version.name):
            return version
    names = ", ".join(version.label for version in known) or "none"
    raise UnknownName(f"No dataset is called {label!r}; there is: {names}.")


def placements(ledger: Ledger, vault: Objects, dataset: DatasetVersion) -> Iterator[Placed]:
    """Where each record ended in the forming of a dataset version. Raises CorruptObject."""
    if not dataset.index:
        yield from placements_before_2026_12(ledger, dataset.label)
    for table in read_index(vault, dataset.index, ("key", "stamps", "step", "reason")):
        columns = (table[name].to_pylist() for name in ("key", "stamps", "step", "reason"))
        for key, stamps, step, reason in zip(*columns, strict=True):
            yield Placed(tagged_digest(key), stamps, step, reason)


def placements_before_2026_12(ledger: Ledger, label: str) -> Iterator[Placed]:
    """The same for versions that have no index."""
    for row in all_rows(ledger, ordered(tables.placements).where(tables.placements.c.dataset == label)):
        yield Placed(row.key, row.stamps, row.step, row.reason)
