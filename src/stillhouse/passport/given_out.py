"""The passports that this home gave out, and what was revoked since: asked of the ledger, so that no file is needed."""

from pathlib import Path

from stillhouse.clock import now
from stillhouse.errors import UsageError
from stillhouse.home.current_permission import own_signatory
from stillhouse.home.ledger import origin_queries, permission_queries, training_queries
from stillhouse.home.open_home import Home
from stillhouse.nouns import AccessChange
from stillhouse.passport.revoked_since import NO_MODEL, PassportStatus, publish, revoked_since
from stillhouse.vault.files import write_whole


def passports_given_out(home: Home) -> list[PassportStatus]:
    """Every passport that was written, oldest first."""
    sets = origin_queries.stamp_sets(home.ledger)
    changes = [
        (act.at, act.entry.content.id)
        for act in permission_queries.acts(home.ledger)
        if isinstance(act.entry.content, AccessChange)
    ]
    stamps = {model.label: sets[model.stamps].stamps for model in training_queries.models(home.ledger)}
    found = []
    for written in permission_queries.passports(home.ledger):
        known = {change for at, change in changes if at <= written.at}
        origins = stamps.get(written.model)
        since = NO_MODEL if origins is None else revoked_since(home.policy, origins, known)
        found.append(
            PassportStatus(
                model=written.model,
                digest=written.digest,
                written=written.at,
                revoked_since=since.revocations,
                uses=since.uses,
            )
        )
    return found


def publish_list(home: Home, target: Path) -> list[PassportStatus]:
    """Write the signed list of them to ``target``; returns the revoked ones. Raises UsageError, KeyUnusable, StorageError."""
    if target.exists():
        raise UsageError(f"{target} exists already.", next_step="Name a file that does not exist yet.")
    statuses = passports_given_out(home)
    if not statuses:
        raise UsageError(
            "No passport was written by this home.", next_step="`stillhouse passport write MODEL` writes one."
        )
    write_whole(target, publish(statuses, own_signatory(home.ledger, home.settings), now()))
    return [one for one in statuses if one.revoked_since]
