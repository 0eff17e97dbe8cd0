"""Registering a teacher: what is declared must agree with what is found, and where there is a roster it is signed."""

import hashlib
import os
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from stillhouse.canon import digest_file
from stillhouse.clock import now
from stillhouse.errors import NameTaken, RecipeError, TeacherContradiction, UnknownName, UsageError
from stillhouse.generation.weights import tensor_digests, weights_digest
from stillhouse.home import facts
from stillhouse.home.current_permission import current_roster
from stillhouse.home.ledger import origin_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.open_home import Home
from stillhouse.home.plans.prices import parse_usd
from stillhouse.home.proposals import Findings, Handling, Proposed, Written, plan_act, propose, unlike
from stillhouse.home.recognised_weights import recognise
from stillhouse.home.recorder import Recorder
from stillhouse.home.stamping import stamps_of
from stillhouse.nouns import Grade, Plan, Teacher, TeacherKind, Use
from stillhouse.permission.acts.registrations import registration_digest
from stillhouse.permission.decide import OWN_TERMS, Door, Policy
from stillhouse.permission.known_hosts import OFFICIAL_URLS, asked_at, host_of
from stillhouse.permission.known_names import fold_lab
from stillhouse.permission.known_origins import check_declaration, known_weights
from stillhouse.permission.terms_registry import Registry
from stillhouse.teachers.dialect import LIMITS, OPTIONAL

REGISTER = "register-teacher"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# As variables are named; keys are long, with small letters and digits, or begin as those of known services do.
_VARIABLE = re.compile(
    r"(?!(?:sk|pk|rk|gsk|hf|xai|ghp|r8|AIza|nvapi|eyJ)[_A-Za-z0-9]{16,})(?!(?=.*[a-z])(?=.*[0-9]).{25,})[A-Za-z_][A-Za-z0-9_]{0,63}"
)


# What stands in no host's name.
_NO_HOST = re.compile(r"[\x00-\x20/\\%;,?#@!$&'()*+=|<>^`{}\"]")


class Checked(NamedTuple):
    """A teacher whose declaration agrees with what is found. ``new`` is false where it is registered just so already."""

    teacher: Teacher
    new: bool


def check_teacher(ledger: Ledger, teacher: Teacher, *, unmetered: bool) -> Checked:
    """Complete a teacher with what is found of it; nothing is written down.

    Raises UsageError for what is missing, TeacherContradiction for what is not so, NameTaken where the name stands for
    another teacher already.
    """
    default = OFFICIAL_URLS.get(teacher.kind, "")
    if default and not teacher.base_url:
        teacher = msgspec.structs.replace(teacher, base_url=default)  # what is not said is checked all the same
    _check_shape(teacher, unmetered)
    teacher = _with_weights(teacher)
    check_declaration(teacher)
    known = next((known for known in origin_queries.teachers(ledger) if known.name == teacher.name), None)
    if known is None:
        return Checked(teacher, True)
    if not teacher.limit_field and not teacher.rejects:  # not said again: what is known stays
        teacher = msgspec.structs.replace(teacher, limit_field=known.limit_field, rejects=known.rejects)
    if known == teacher:
        return Checked(known, False)
    if known == msgspec.structs.replace(teacher, limit_field=known.limit_field, rejects=known.rejects):
        return Checked(teacher, True)  # the same teacher, whose server takes other fields
    same = msgspec.structs.replace(known, weights=teacher.weights, tensors=teacher.tensors)
    if teacher.weights_digest and same == teacher:
        return Checked(teacher, True)  # the same weights in another place, or written down by an earlier version
    raise NameTaken(f"{teacher.name!r} is registered already, and not as this.")


def register(home: Home, teacher: Teacher, *, unmetered: bool) -> Teacher:
    """Check a teacher and write it down; returns it as registered. Repeating a registration changes nothing.

    Where teachers were adopted it is a draft unless it was signed before (``propose_teacher``). Raises like ``check_teacher``.
    """
    checked = check_teacher(home.ledger, teacher, unmetered=unmetered)
    write_down(home, checked)
    return checked.teacher


def write_down(home: Home, checked: Checked) -> None:
    """Write a checked teacher down, unless it is registered just so."""
    if checked.new:
        edges = _as_model(home, checked.teacher)
        home.recorder.record(facts.TeacherRegistered(at=now(), by=home.recorder.by, teacher=checked.teacher), *edges)
        home.recorder.refresh()


def _as_model(home: Home, teacher: Teacher) -> list[facts.Fact]:
    """The edge from a model that was trained here to a teacher of its weights: whatever it is called, it is that model."""
    trained = recognise(home, teacher)
    if trained is None:
        return []
    edge = {"parent": f"model:{trained.label}", "child": f"teacher:{teacher.name}", "kind": "teaches as"}
    return [facts.Derived(at=now(), by=home.recorder.by, **edge)]


class _Registrations(Handling[Teacher]):
    kinds, name, content = (REGISTER,), "teacher", Teacher

    def differences(self, home: Home, plan: Plan, content: Teacher) -> list[str]:
        return unlike("subject", plan.subject, content.name)

    def found(self, home: Home, content: Teacher) -> Findings:
        return Findings({"teacher": msgspec.to_builtins(content)}, {})

    def prepare(self, home: Home, content: Teacher) -> list[facts.Fact]:
        """Raises what a declaration that is not so raises."""
        check_declaration(content)
        check_not_revoked(home.recorder, home.policy, content)
        return _as_model(home, content)

    def carry_out(self, plan: Plan, content: Teacher, written: Written, prepared: Any) -> dict[str, Any]:
        approved = facts.TeacherApproved(teacher=content, **written.shared)
        written.home.recorder.record(approved, *prepared)
        return {"teacher": content.name, "signed by": written.signed_by}


REGISTRATIONS = _Registrations()


def must_be_signed(home: Home, checked: Checked) -> bool:
    """Does a registration need the signature of who answers for permission? Where there is a roster, and it is not signed yet."""
    known = {registration_digest(known) for known in origin_queries.teachers(home.ledger)}
    needed = current_roster(home.ledger, home.settings) is not None
    return needed and checked.new and registration_digest(checked.teacher) not in known


def draft_named(home: Home, name: str) -> Teacher:
    """A draft by its name, checked as a new registration is. Raises UnknownName, TeacherContradiction."""
    drafts = {draft.name: draft for draft in origin_queries.draft_teachers(home.ledger)}
    if name not in drafts:
        known = ", ".join(drafts) or "none"
        raise UnknownName(
            f"No draft is called {name!r}; there is: {known}.", next_step="`stillhouse status` lists them."
        )
    check_declaration(drafts[name])
    check_not_revoked(home.recorder, home.policy, drafts[name])
    return drafts[name]


def propose_teacher(home: Home, teacher: Teacher) -> Proposed:
    """Register a checked teacher as an act: at once where nobody else must say yes. Raises SignatureRefused."""
    does = {"teacher": msgspec.to_builtins(teacher)}
    return propose(home, REGISTRATIONS, plan_act(home, REGISTRATIONS, REGISTER, teacher.name, does))


def check_not_revoked(recorder: Recorder, policy: Policy, teacher: Teacher) -> None:
    """What was revoked goes on under no other lab's name. Raises TeacherContradiction where the same model at the same place is
    registered as one of a lab that has revoked access.
    """
    place = asked_at(teacher)
    for known in origin_queries.teachers(recorder.ledger) if place else ():
        if asked_at(known) != place or fold_lab(known.lab) == fold_lab(teacher.lab):
            continue
        decision = policy.check(Door.CONTINUE, stamps_of(recorder.ledger, known, purpose=Use.TRAIN), Use.TRAIN)
        if not decision.allowed:
            raise TeacherContradiction(
                f"{teacher.model} is registered there as {known.name}, and that is revoked: {decision.reason}.",
                next_step="`stillhouse access list` shows the revocation; another name does not lift it.",
            )


def unknown_terms(teacher: Teacher, registry: Registry) -> tuple[str, ...]:
    """Terms of a teacher that the registry does not know: it may be registered, but its answers serve no use."""
    return tuple(terms for terms in teacher.terms if terms != OWN_TERMS and not registry.of(terms))


def account_fingerprint(key: str) -> str:
    """Which account a key belongs to, without the key: keys have too much entropy to be found from this."""
    return hashlib.blake2b(key.encode(), digest_size=8, person=b"stillhouse-acct").hexdigest() if key else ""


def key_of(teacher: Teacher) -> str:
    """A teacher's API key from the environment variable that its registration names. Raises UsageError."""
    if not teacher.key_env:
        return ""
    key = os.environ.get(teacher.key_env, "")  # noqa: TID251 - the one secret that is read where it is used
    if not key:
        raise UsageError(
            f"{teacher.name} needs an API key, and the variable {teacher.key_env} is not set.",
            next_step=f"Set {teacher.key_env} in the environment, then run the command again.",
        )
    return key


def _check_shape(teacher: Teacher, unmetered: bool) -> None:
    if not _NAME.fullmatch(teacher.name):
        raise UsageError(f"{teacher.name!r} is not a valid name for a teacher: use a-z, 0-9, dot, dash and underscore.")
    if not teacher.lab or not teacher.model or not teacher.terms:
        raise UsageError(f"{teacher.name} needs --model, --lab and --terms.")
    if teacher.key_env and not _VARIABLE.fullmatch(teacher.key_env):  # it may be the key itself, and is not repeated
        raise UsageError(
            f"{teacher.name}: the value of --key-env is not the name of an environment variable.",
            next_step="Put the key into a variable, such as TEACHER_KEY, and give that name. If a key stood there, "
            "your shell's history has it now.",
        )
    if teacher.limit_field not in ("", *LIMITS) or (teacher.limit_field and teacher.kind is not TeacherKind.OPENAI):
        raise UsageError(f"--limit-field is {' or '.join(LIMITS)}, and for openai teachers alone.")
    if unknown := set(teacher.rejects) - set(OPTIONAL):
        raise UsageError(f"--rejects takes {' and '.join(OPTIONAL)}, not {', '.join(sorted(unknown))}.")
    for price in (teacher.price_in, teacher.price_out):
        try:
            if price and not (Decimal(price).is_finite() and Decimal(price) >= 0):
                raise InvalidOperation
        except InvalidOperation:
            raise UsageError(f"A price is USD per million tokens, such as 0.15, not {price!r}.") from None
    if teacher.batch_share and not 0 < parse_usd(teacher.batch_share, "--batch-share") <= 1:
        raise UsageError("--batch-share must lie above 0, and not above 1.")
    over_http = teacher.kind in (TeacherKind.OPENAI, TeacherKind.ANTHROPIC)
    if over_http and not unmetered and not (teacher.price_in and teacher.price_out):
        raise UsageError(
            f"{teacher.name} has no price, and a metered teacher needs one.",
            next_step="Give --price-in and --price-out (USD per million tokens), or say --unmetered.",
        )
    if not over_http and not teacher.weights:
        raise UsageError(f"{teacher.name}: a {teacher.kind} teacher needs --weights PATH.")
    if over_http and teacher.base_url:
        _check_address(teacher.base_url)


def _check_address(address: str) -> None:
    """It names a host, and nobody's secret: what is registered is written down and shown. No message repeats it."""
    if "@" in address.partition("://")[2].partition("/")[0] or "@" in address.partition("/")[0]:
        raise UsageError(
            "The address holds a user name or a password, and addresses are written down.",
            next_step="Leave it out, and give the API key by --key-env.",
        )
    try:
        host, port = host_of(address), urlsplit(address).port  # raises for a port that there is not
    except ValueError:
        host, port = "", None
    known = host and not _NO_HOST.search(host) and not re.search(r"[\x00-\x20\\\x7f]", address)
    if not known or port == 0 or not address.lower().startswith(("http://", "https://")):
        raise UsageError(
            "--base-url names no host that can be asked.", next_step="Write it like https://llm.example.org:8000/v1."
        )


def _with_weights(teacher: Teacher) -> Teacher:
    """A teacher with the digest of what it answers from, and an observed grade where that digest is known."""
    if teacher.kind is TeacherKind.LOCAL:
        digest = weights_digest(Path(teacher.weights))
        grade = Grade.OBSERVED if known_weights(digest) else Grade.DECLARED
    elif teacher.kind is TeacherKind.REPLAY:
        path = Path(teacher.weights)
        if not path.is_file():
            raise RecipeError(f"{teacher.name}: there is no recording at {path}.")
        digest, grade = digest_file(path), Grade.DECLARED
    else:
        return teacher
    weights = str(Path(teacher.weights).absolute())
    tensors = tensor_digests(Path(weights)) if teacher.kind is TeacherKind.LOCAL else ()
    return msgspec.structs.replace(teacher, weights=weights, weights_digest=digest, tensors=tensors, grade=grade)
