"""A declaration that contradicts what is known of a name, a host or weights is refused."""

import functools
import tomllib
from collections.abc import Sequence
from importlib import resources

import msgspec

from stillhouse.errors import TeacherContradiction
from stillhouse.nouns import Channel, Teacher, TeacherKind
from stillhouse.permission.known_hosts import (
    KnownHost,
    documents_of,
    is_agreement,
    is_of_one_lab,
    is_this_machine,
    known_host,
    owner_of,
)
from stillhouse.permission.known_names import closed_labs, fold_lab
from stillhouse.permission.terms_registry import shipped

# Terms that only those can give who have the weights, or wrote the text.
OPEN_TERMS = ("licence/", "organisation/")


class KnownWeights(msgspec.Struct, frozen=True):
    """Weights that were looked at."""

    digest: str
    name: str
    lab: str
    terms: str
    repository: str = ""


@functools.cache
def _weights() -> list[KnownWeights]:
    text = resources.files(__package__).joinpath("known_weights.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text)["weights"], list[KnownWeights])


def known_weights(digest: str) -> KnownWeights | None:
    """What is known of weights by their digest."""
    return next((known for known in _weights() if known.digest == digest), None)


def check_declaration(teacher: Teacher) -> None:
    """Raises TeacherContradiction where a teacher is declared to be what its name, host or weights are known not to be."""
    host = known_host(teacher.base_url) if teacher.base_url else None
    if host is not None:
        _check_host(teacher, host)
    wrong = closed_as_open(teacher.model, teacher.lab, teacher.channel, teacher.terms)
    if wrong and not _is_here(teacher):
        raise TeacherContradiction(f"{teacher.name}: {wrong}.")
    weights = known_weights(teacher.weights_digest)
    if weights is not None and (weights.lab != teacher.lab or weights.terms not in teacher.terms):
        raise TeacherContradiction(
            f"{teacher.name}: these weights are {weights.name} by {weights.lab} under {weights.terms}, "
            f"but {teacher.lab} under {', '.join(teacher.terms)} was declared."
        )


def borrowed_name(teacher: Teacher) -> str:
    """What is to be looked at where something on this machine has a closed model's name: its own model may be called so, for
    tools that ask for that one, but whoever passes calls on is no origin. Empty where there is nothing.
    """
    wrong = closed_as_open(teacher.model, teacher.lab, teacher.channel, teacher.terms) if _is_here(teacher) else ""
    if not wrong:
        return ""
    return f"{wrong}; if it passes calls on, what is asked through it is {teacher.model}, so register it as that"


def _is_here(teacher: Teacher) -> bool:
    return teacher.kind is TeacherKind.LOCAL or is_this_machine(teacher.base_url)


def closed_as_open(model: str, lab: str, channel: Channel, terms: Sequence[str]) -> str:
    """What is wrong with declaring so a model that only its lab has; empty where nothing is."""
    labs = closed_labs(model)
    if not labs:
        return ""
    owners = " or ".join(sorted(labs))
    if lab and fold_lab(lab) not in labs:
        return f"{model} is a model of {owners}, but {lab} was declared"
    if channel is Channel.OPEN_WEIGHTS:
        return f"{model} has no open weights, but {channel} was declared"
    unfit = [term for term in terms if term not in fitting_terms(model, terms)]
    # Another lab's document beside a fitting one makes it no looser; an open licence says that there are weights to have.
    if any(term.startswith(OPEN_TERMS) for term in unfit) or (unfit and len(unfit) == len(terms)):
        return f"{model} is a closed model of {owners}, so {', '.join(unfit)} cannot be its terms"
    return ""


def fitting_terms(model: str, terms: Sequence[str]) -> list[str]:
    """Of some terms those that can be a model's: a closed one has no open licence, and no other lab's own terms."""
    labs = closed_labs(model)
    if not labs:
        return list(terms)
    return [
        term
        for term in terms
        if not term.startswith(OPEN_TERMS)
        and (not is_of_one_lab(service := term.partition("/")[0]) or owner_of(service) in labs)
    ]


def _check_host(teacher: Teacher, host: KnownHost) -> None:
    name = host.host.replace("*", "…")
    personal = teacher.channel is Channel.PERSONAL  # stricter than what is known: it misleads no one
    if host.channel is not teacher.channel and not personal:
        raise TeacherContradiction(
            f"{teacher.name}: {name} is known as {host.channel}, but {teacher.channel} was declared."
        )
    bound = tuple(f"{service}/" for service in host.services)
    if bound and not any(terms.startswith(bound) and is_agreement(terms) for terms in teacher.terms):
        raise TeacherContradiction(
            f"{teacher.name}: use of {name} is bound by terms of {' or '.join(host.services)}, and "
            f"{', '.join(teacher.terms)} was declared.",
            next_step=_which_terms(host),
        )
    if host.lab and host.lab != fold_lab(teacher.lab):
        raise TeacherContradiction(f"{teacher.name}: {name} belongs to {host.lab}, but {teacher.lab} was declared.")


def _which_terms(host: KnownHost) -> str:
    documents = documents_of(host)
    if any(shipped().of(document) for document in documents):
        return f"Declare what binds you there, beside the model's own terms: {', '.join(documents)}."
    return (
        f"Declare {' or '.join(documents)}, too. The registry has no text of it, so what it allows is unknown until you have "
        "read it and written an entry into the home's terms/ (docs/policy.md)."
    )
