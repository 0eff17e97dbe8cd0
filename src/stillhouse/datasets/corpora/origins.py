"""From what a row says of itself, and what the importer declares, to a stamp. Pure. What nobody says stays unknown."""

import functools
from collections.abc import Iterable
from typing import NamedTuple

from stillhouse.conversations.finishes import LABELS
from stillhouse.datasets.corpora.row_shapes import ParsedRow
from stillhouse.nouns import Channel, Grade, Origin, Stamp, StampSet
from stillhouse.permission.known_hosts import documents_of, known_provider
from stillhouse.permission.known_names import fold_lab, is_known_model, lab_of_model
from stillhouse.permission.known_origins import closed_as_open, fitting_terms
from stillhouse.permission.stamp_sets import stamp_set

_OTHER = "other"


class Declared(NamedTuple):
    """What the importer says of everything that a row does not say itself."""

    origin: Origin = Origin.UNKNOWN
    lab: str = ""
    model: str = ""
    channel: Channel = Channel.UNKNOWN
    terms: tuple[str, ...] = ()
    day: str = ""
    prompt_terms: tuple[str, ...] = ()


class Told(NamedTuple):
    """What a row says of its origin: the model, the service that it came through, and the provider behind that."""

    model: str
    via: str
    provider: str
    day: str


def withheld(said: ParsedRow) -> ParsedRow:
    """A row without words of its own: names that nobody knows might be anybody's. What it called somehow stays unknown."""
    return said._replace(
        model=said.model if not said.model or is_known_model(said.model) else _OTHER,
        via=said.via if not said.via or known_provider(said.via) else _OTHER,
        provider=said.provider if not said.provider or known_provider(said.provider) else _OTHER,
        finish=said.finish if said.finish in LABELS else _OTHER,
        speakers=tuple((model if not model or is_known_model(model) else _OTHER, day) for model, day in said.speakers),
    )


def stamp_of(said: Told, declared: Declared) -> Stamp:
    """The stamp of a row's answer. What the row itself names wins over what is declared of all.

    Through a known intermediary, its own terms bind, and those of the upstream provider where that is the lab itself. Who
    only says a model's name has not said how it was reached.
    """
    model = said.model or declared.model
    lab = (lab_of_model(said.model) if said.model else "") or (fold_lab(declared.lab) if declared.lab else "")
    reached = known_provider(said.via) if said.via else None
    channel = reached.channel if reached else (Channel.UNKNOWN if said.via else declared.channel)
    terms = list(declared.terms)
    if reached is not None:
        terms = list(documents_of(reached))
        upstream = known_provider(said.provider) if said.provider else None
        if upstream is not None and upstream.lab and upstream.lab == lab:
            terms += documents_of(upstream)
        terms += [term for term in declared.terms if term not in terms]
    if closed_as_open(said.model, "", channel, terms):  # what is declared of all rows cannot be so of this one
        terms = fitting_terms(said.model, terms)
        channel = Channel.UNKNOWN if channel is Channel.OPEN_WEIGHTS else channel
    known = bool(model or lab)
    origin = Origin.TEACHER if known and declared.origin is Origin.UNKNOWN else declared.origin
    return Stamp(
        origin=origin,
        lab=lab,
        model=model,
        channel=channel,
        terms=tuple(terms),
        day=said.day or declared.day,
        grade=Grade.DECLARED if origin is not Origin.UNKNOWN else Grade.UNKNOWN,
        provider=" > ".join(part for part in (said.via, said.provider) if part),
    )


def stamps_of(said: ParsedRow, declared: Declared) -> StampSet:
    """The stamp set of a row: those of its answers, and of what was given to them where something is declared of that."""
    speakers = said.speakers if said.conversation is not None else ()
    told = {Told(model, said.via, said.provider, day) for model, day in speakers}
    return _stamps_of(tuple(sorted(told)) or (Told(said.model, said.via, said.provider, said.day),), declared)


def answer_stamps(said: ParsedRow, declared: Declared) -> tuple[StampSet, ...]:
    """The stamp set of each answer of a conversation, in order; none where a row is text alone."""
    if said.conversation is None:
        return ()
    alone = declared._replace(prompt_terms=())
    return tuple(_stamps_of((Told(model, said.via, said.provider, day),), alone) for model, day in said.speakers)


@functools.lru_cache(maxsize=65_536)  # a million rows have some dozens
def _stamps_of(told: tuple[Told, ...], declared: Declared) -> StampSet:
    members: Iterable[Stamp] = [stamp_of(said, declared) for said in told]
    inputs = input_stamps(declared)
    return stamp_set([*members, *(inputs.stamps if inputs is not None else ())])


def input_stamps(declared: Declared) -> StampSet | None:
    """The stamp set of what answers were given: questions, system texts, results of tools. None where nothing is declared."""
    if not declared.prompt_terms:
        return None
    return inputs_under(declared.prompt_terms, declared.day)


def inputs_under(terms: tuple[str, ...], day: str) -> StampSet:
    """The stamp set of inputs that are under these terms."""
    return stamp_set([Stamp(origin=Origin.PROMPT_SEED, terms=terms, day=day, grade=Grade.DECLARED)])
