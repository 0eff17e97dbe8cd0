"""Look at a home and say what is proved, what is wrong, and what this machine lacks."""

import contextlib
import importlib.util
import sys
from collections.abc import Callable

import msgspec

from stillhouse import __version__
from stillhouse.custody.named_objects import named_objects
from stillhouse.errors import CorruptObject, SandboxUnavailable, StillhouseError
from stillhouse.home.current_permission import load
from stillhouse.home.ledger import custody_queries, training_queries, view_queries
from stillhouse.home.model_files import check_files
from stillhouse.home.open_home import HOME_VERSION, Home
from stillhouse.home.policy_documents import in_force
from stillhouse.home.policy_standing import HOW_TO_SIGN, policy_standing
from stillhouse.sandbox.pool import best_rung
from stillhouse.vault.checkpoints import audit, load_checkpoints
from stillhouse.vault.erasable import key_of_snapshot

OK, NOTE, BAD = "ok", "note", "bad"
_MOST_NAMED = 20


class Check(msgspec.Struct, frozen=True):
    """One finding. ``state`` is ok, note (works, but look) or bad (integrity violated)."""

    name: str
    state: str
    detail: str


def examine(home: Home) -> list[Check]:
    """Every check, in order; none of them changes anything."""
    checks = [
        Check("version", OK, f"stillhouse {__version__}, home version {HOME_VERSION}, Python {sys.version.split()[0]}")
    ]
    for check in (_log, _objects, _ledger, _models, _claims, _policy):
        checks += _guarded(check, home)
    return [*checks, _sandbox(), _generation()]


def _guarded(check: Callable[[Home], list[Check]], home: Home) -> list[Check]:
    try:
        return check(home)
    except StillhouseError as failure:
        return [Check(check.__name__.strip("_"), BAD, str(failure))]


def _log(home: Home) -> list[Check]:
    proof = audit(home.log, load_checkpoints(home.settings.checkpoints))
    found = [Check("log", BAD, problem) for problem in proof.problems]
    if found:
        return found
    if home.settings.checkpoints is None:
        detail = (
            f"{proof.entries} entries are consistent with each other. No checkpoint is kept elsewhere, so anyone who can write "
            "to this folder could have replaced them all: set `checkpoints` in config.toml."
        )
        return [Check("log", NOTE, detail)]
    detail = (
        f"{proof.entries} entries are consistent; the first {proof.covered} are proved unchanged by checkpoints kept in "
        f"{home.settings.checkpoints} (newest: {proof.checkpoint or 'none yet'})."
    )
    return [Check("log", OK if proof.covered == proof.entries else NOTE, detail)]


def _objects(home: Home) -> list[Check]:
    results = list(home.objects.verify())
    bad = [Check("objects", BAD, problem) for _, problem in results if problem]
    missing = sorted(set(named_objects(home).objects) - {digest for digest, _ in results})
    bad += [Check("objects", BAD, f"{digest} is missing.") for digest in missing[:_MOST_NAMED]]
    if len(missing) > _MOST_NAMED:
        bad.append(
            Check("objects", BAD, f"{len(missing)} objects are missing in all (`stillhouse vault verify` names them).")
        )
    return bad or [Check("objects", OK, f"{len(results)} objects read, all digests verified")]


def _ledger(home: Home) -> list[Check]:
    home.ledger.catch_up(home.log)
    different = home.ledger.differences(home.log)
    if different:
        return [Check("ledger", BAD, f"{text} (run `stillhouse doctor --rebuild`)") for text in different]
    found = [Check("ledger", OK, f"equal to the log, row for row ({home.ledger.engine.dialect.name})")]
    refused = view_queries.unviewed(home.ledger)
    if refused:
        named = "; ".join(f"{one.kind}, entry {one.number} of {one.writer}: {one.reason}" for one in refused[:5])
        found.append(Check("ledger", NOTE, f"{len(refused)} entries are in the log and in no table ({named})"))
    return found


def _models(home: Home) -> list[Check]:
    models, found = training_queries.models(home.ledger), []
    for model in models:
        try:
            check_files(home.places, model)
        except CorruptObject as failure:
            found.append(Check("models", BAD, failure.detail))
    return found or [Check("models", OK, f"{len(models)} models have the bytes that they were written with")]


def _claims(home: Home) -> list[Check]:
    """What entries that nobody signs say against what is so. Nothing is removed by them; who wrote them may be asked why."""
    found = []
    for one in custody_queries.snapshots(home.ledger):
        with contextlib.suppress(CorruptObject):  # that it is gone is said by another check
            if one.erasable and not key_of_snapshot(home.objects, one.snapshot):
                said = f"An entry calls {one.snapshot} erasable as {one.erasable}, and by its own bytes it is not encrypted."
                found.append(Check("claims", NOTE, said))
    shared = [
        (key.key, ", ".join((key.source, *key.others)))
        for key in custody_queries.erasure_keys(home.ledger).values()
        if key.others
    ]
    found += [Check("claims", NOTE, f"{sources} are all said to have one key: {key}.") for key, sources in shared]
    return found or [Check("claims", OK, "snapshot and key entries verified")]


def _policy(home: Home) -> list[Check]:
    """Which documents decide, and whether the files say the same."""
    standing = policy_standing(home)
    if not standing.needed:
        return [Check("policy", NOTE, "there is no roster: whoever can write the files of this home decides")]
    in_force(home.settings, load(home.ledger, home.settings).state, home.objects)  # raises where one is lost
    if not standing.drafts:
        return [Check("policy", OK, "the files are as they were adopted")]
    lines = standing.drafts[:_MOST_NAMED]
    more = [f"and {len(standing.drafts) - _MOST_NAMED} more"] if len(standing.drafts) > _MOST_NAMED else []
    return [
        Check(
            "policy",
            NOTE,
            f"{'; '.join([*lines, *more])} ({HOW_TO_SIGN})",
        )
    ]


def _sandbox() -> Check:
    try:
        rung = best_rung()
    except SandboxUnavailable as failure:
        return Check("sandbox", NOTE, str(failure))
    return Check("sandbox", OK if rung == "namespaces" else NOTE, f"{rung}+seccomp")


def _generation() -> Check:
    missing = [name for name in ("torch", "transformers", "peft") if importlib.util.find_spec(name) is None]
    if missing:
        return Check(
            "generation", NOTE, f"no local models: {', '.join(missing)} not installed (pip install 'stillhouse[train]')"
        )
    return Check("generation", OK, "local models can be run")
