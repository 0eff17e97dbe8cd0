"""What a deletion would reach: objects that nothing else names, what was made from it, holds, what it costs to get back."""

from decimal import Decimal
from typing import NamedTuple

from stillhouse.canon import digest_value
from stillhouse.clock import utc_now
from stillhouse.custody import replaceability
from stillhouse.custody.copies.home_snapshots import DATASET, MODEL, SNAPSHOT, find
from stillhouse.custody.deletion.record_sources import sources_of_dataset, sources_of_run
from stillhouse.custody.named_objects import (
    INDEX,
    Naming,
    active_holds,
    dead_nodes,
    nodes_of_keys,
    surely_named_objects,
)
from stillhouse.custody.replaceability import Replaceability, worst_first
from stillhouse.errors import CorruptObject, PlanRefused, UnknownName
from stillhouse.home import facts
from stillhouse.home.current_permission import load
from stillhouse.home.erasable_sources import check_claim
from stillhouse.home.ledger import (
    custody_queries,
    dataset_queries,
    lineage_graph,
    training_queries,
)
from stillhouse.home.open_home import Home
from stillhouse.nouns import Erasure

RUN, REGISTERED = "run:", "registered:"


class Reach(NamedTuple):
    """Everything that a plan to delete rests on."""

    subjects: tuple[str, ...]
    mentions: dict[str, int]
    objects: tuple[str, ...]
    bytes: int
    dependents: tuple[str, ...]
    holds: tuple[facts.HoldPlaced, ...]
    elsewhere: int
    replaceability: Replaceability

    @property
    def digest(self) -> str:
        """Changes with anything that changes what the deletion would do."""
        holds = [hold.hold for hold in self.holds]
        return digest_value([self.subjects, self.mentions, self.objects, self.bytes, self.dependents, holds])


def reach_of(home: Home, subjects: tuple[str, ...]) -> Reach:
    """What deleting these would reach. Raises UnknownName, CorruptObject."""
    naming = surely_named_objects(home)
    nodes = tuple(sorted({node_of(home, naming, subject) for subject in subjects}))
    objects = tuple(sorted(digest for digest, names in naming.objects.items() if names <= set(nodes)))
    kept = sum(1 for names in naming.objects.values() if names & set(nodes) and not names <= set(nodes))
    dependents = {node for subject in nodes for node in lineage_graph.descendants(home.ledger, subject)}
    holds = tuple(hold for hold in active_holds(home) if hold.subject in _held_with(home, nodes))
    return Reach(
        nodes,
        {node: naming.mentions[node] for node in nodes},
        objects,
        sum(home.objects.size(digest) for digest in objects if home.objects.exists(digest)),
        tuple(sorted(dependents - set(nodes))),
        holds,
        kept,
        replaceability_of(home, nodes),
    )


def reach_of_source(home: Home, source: str) -> Reach:
    """What erasing a source would reach: all that is encrypted with its key. Raises UnknownName, CorruptObject, ForgedEntry."""
    erased = {
        erasure.key for erasure in load(home.ledger, home.settings).state.of(Erasure)
    }  # signed, unlike that it was done
    claims = custody_queries.keys_of_source(home.ledger, source)
    for one in claims:
        check_claim(one)
    keys = {one.key for one in claims} - erased
    nodes = nodes_of_keys(home, keys)
    if not keys:
        raise UnknownName(
            f"No source {source!r} has a key that could be destroyed.",
            next_step="`vault snapshot --erasable NAME` and `dataset import --erasable NAME` make one.",
        )
    return reach_of(home, tuple(sorted(nodes - dead_nodes(home, custody_queries.mentions(home.ledger)))))


def replaceability_of(home: Home, nodes: tuple[str, ...]) -> Replaceability:
    """Of several nodes: the class of the worst, the cost of all."""
    each = [_of_node(home, node) for node in nodes]
    if not each:
        return replaceability.unknown("it")
    worst = min(each, key=lambda one: worst_first(one.kind))
    usd = sum((Decimal(one.usd) for one in each), Decimal(0))
    return Replaceability(worst.kind, f"{usd:f}", round(sum(one.hours for one in each), 4), worst.evidence)


def check_caps(home: Home, size: int, usd: Decimal) -> None:
    """Raises PlanRefused where the day's deletions would be more than this home allows."""
    since = utc_now().strftime("%Y-%m-%dT00:00:00.000Z")
    undone = custody_queries.undone(home.ledger)
    today = [deletion for _, deletion in custody_queries.deleted_since(home.ledger, since) if deletion.id not in undone]
    caps = home.settings.custody
    size += sum(deletion.bytes for deletion in today)
    usd += sum((Decimal(deletion.usd) for deletion in today), Decimal(0))
    if size > caps.delete_bytes_per_day or usd > caps.delete_usd_per_day:
        raise PlanRefused(
            f"This day's deletions would be {size:,} bytes that cost ${usd:f} to get back; the caps are "
            f"{caps.delete_bytes_per_day:,} bytes and ${caps.delete_usd_per_day:f}.",
            next_step="Delete less, wait until tomorrow (UTC), or raise [custody] in config.toml.",
        )


def node_of(home: Home, naming: Naming, subject: str) -> str:
    """A subject as the node that it is called in lineage: snapshots may be named by the first characters of their digest."""
    if subject.startswith(SNAPSHOT):
        subject = f"{SNAPSHOT}{find(home, subject.removeprefix(SNAPSHOT)).snapshot}"
    if subject.startswith(REGISTERED) and subject not in naming.mentions:  # by its name
        name = subject.removeprefix(REGISTERED)
        known = [
            f"{REGISTERED}{one.manifest}" for one in custody_queries.registrations(home.ledger) if one.name == name
        ]
        subject = known[-1] if known else subject
    if subject in naming.dead:
        raise UnknownName(f"{subject} is deleted already.")
    if subject not in naming.mentions or subject.startswith(INDEX):
        raise UnknownName(
            f"Nothing in the vault is kept for {subject!r}.",
            next_step="Name dataset:NAME@N, snapshot:DIGEST, registered:NAME or run:ID: `stillhouse vault list`, `dataset list`.",
        )
    return subject


def _held_with(home: Home, nodes: tuple[str, ...]) -> set[str]:
    """The nodes whose holds concern these: a copy of what is held is held."""
    copies = custody_queries.snapshots(home.ledger)
    return {*nodes, *(one.subject for one in copies if one.subject and f"{SNAPSHOT}{one.snapshot}" in nodes)}


def _of_node(home: Home, node: str) -> Replaceability:
    if node.startswith(DATASET):
        label = node.removeprefix(DATASET)
        dataset = next((one for one in dataset_queries.datasets(home.ledger) if one.label == label), None)
        if dataset is None:  # a snapshot of something that is called so, and is in no log
            return replaceability.of_records([])
        try:
            return replaceability.of_records(sources_of_dataset(home, dataset))
        except CorruptObject:  # of its index: doctor names it
            return replaceability.unknown("it")
    if node.startswith(RUN):
        return replaceability.of_records(sources_of_run(home, node.removeprefix(RUN)))
    if node.startswith(MODEL):
        model = training_queries.model(home.ledger, node.removeprefix(MODEL))
        hours = sum(step.seconds for step in training_queries.steps(home.ledger, model.training)) / 3600
        rows = _of_node(home, f"{DATASET}{model.dataset}")
        dataset = dataset_queries.dataset(home.ledger, model.dataset)
        here = all(map(home.objects.exists, dataset.files.values()))
        return replaceability.of_model(hours, rows, rows_are_here=here)
    subjects = {one.subject for one in custody_queries.snapshots(home.ledger) if f"{SNAPSHOT}{one.snapshot}" == node}
    subject = next(iter(subjects - {""}), "")
    return _of_node(home, subject) if subject else replaceability.unknown("it")
