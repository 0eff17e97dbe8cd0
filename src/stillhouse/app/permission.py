"""Who acts, and what is permitted as of now: the roster, the changes of access and the waivers, each checked before it counts."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from stillhouse.errors import ForgedEntry, KeyUnusable, SignatureRefused
from stillhouse.identity.keys import PUBLIC, Signer, home_signer, public_key, read_public_keys, read_signer
from stillhouse.identity.roster import Held, holders, in_force, member, replay
from stillhouse.identity.signatures import HOME, Signatory, is_signed, require_signed
from stillhouse.ledger import permission
from stillhouse.ledger.store import Ledger
from stillhouse.nouns import AccessChange, Role, Roster, Signature, Waiver
from stillhouse.policy.decide import GRANT, Policy, facts_of
from stillhouse.policy.registry import read_versions, shipped
from stillhouse.policy.rules import read_rules
from stillhouse.settings.home import Settings
from stillhouse.vault.files import storage_errors, write_whole

KEYS, ROSTER_KEYS = "keys", "roster"
# What the statements of grants, revocations and waivers are signed as.
CHANGE, WAIVER, PLAN = "access-change", "waiver", "plan"


def load_policy(ledger: Ledger, settings: Settings, today: str) -> Policy:
    """Everything that decides, as of now. Raises ForgedEntry, TermsError, RuleError."""
    registry = shipped().with_more(read_versions(settings.terms))
    rules = read_rules(settings.rules, facts_of(settings.organisation))
    held = rosters(ledger)
    return Policy(
        settings.organisation,
        registry,
        rules,
        checked_changes(ledger, held, settings),
        checked_waivers(ledger, held, settings),
        today,
    )


def rosters(ledger: Ledger) -> list[Held]:
    """Every roster that was in force. Raises ForgedEntry."""
    return replay(permission.rosters(ledger))


def current_roster(ledger: Ledger) -> Roster | None:
    """The roster in force; None before there was one. Raises ForgedEntry."""
    held = rosters(ledger)
    return held[-1].roster if held else None


def checked_changes(ledger: Ledger, held: Sequence[Held], settings: Settings) -> list[AccessChange]:
    """Grants and revocations, in order. Raises ForgedEntry where one was altered, taken out, or not signed by who may."""
    found = []
    previous = ""
    for stored in permission.access_changes(ledger):
        if stored.previous != previous:
            raise ForgedEntry(f"(access change {stored.change.id} does not follow the one before it)")
        previous = permission.chain_digest(stored)
        check_signed(CHANGE, [stored.change, stored.plan], stored.signature, stored.at, held, settings)
        if stored.change.kind == GRANT:
            check_approved(ledger, stored.plan, stored.change, stored.signature.by, in_force(held, stored.at))
        found.append(stored.change)
    return found


def checked_waivers(ledger: Ledger, held: Sequence[Held], settings: Settings) -> list[Waiver]:
    """Waivers, in order. Raises ForgedEntry."""
    found = []
    for stored in permission.waivers(ledger):
        check_signed(WAIVER, [stored.waiver, stored.plan], stored.signature, stored.at, held, settings)
        check_approved(ledger, stored.plan, stored.waiver, stored.signature.by, in_force(held, stored.at))
        found.append(stored.waiver)
    return found


def check_signed(
    kind: str, value: object, signature: Signature, at: str, held: Sequence[Held], settings: Settings
) -> None:
    """Was this signed by one who answers for permission, under the roster of its time? Raises ForgedEntry."""
    roster = in_force(held, at)
    try:
        if roster is None:
            if signature.by != HOME or signature.roster:
                raise SignatureRefused(f"There was no roster then, and {signature.by} signed it.")
            require_signed(home_key(settings), kind, value, signature)
            return
        who = member(roster, signature.by)
        if signature.roster != roster.version or who is None or Role.GOVERNANCE not in who.roles:
            raise SignatureRefused(
                f"{signature.by} did not answer for permission under roster version {roster.version}."
            )
        require_signed(who.key, kind, value, signature)
    except SignatureRefused as failure:
        raise ForgedEntry(f"({kind} of {at}: {failure})") from failure


def check_approved(ledger: Ledger, plan: str, content: object, author: str, roster: Roster | None) -> None:
    """Did a second person of the roster of then say yes, where there was one? Raises ForgedEntry."""
    others = [known for known in holders(roster, Role.APPROVER) if known.name != author] if roster else []
    if not others:
        return
    keys = {known.name: public_key(known.key) for known in others}
    for _, signature in permission.approvals(ledger, plan):
        if signature.by in keys and is_signed(keys[signature.by], PLAN, approved(plan, content), signature):
            return
    raise ForgedEntry(f"(the plan {plan} needed the approval of one of {', '.join(keys)}, and has none that holds)")


def approved(digest: str, content: object) -> list[object]:
    """What an approval of a plan is over: its digest, and the content that it brings about."""
    return [digest, msgspec.to_builtins(content)]


def home_key(settings: Settings) -> str:
    """The home's public key (PEM). Raises ForgedEntry where it is gone: what it signed cannot be checked any more."""
    path = settings.home / KEYS / PUBLIC
    if not path.is_file():
        raise ForgedEntry(
            f"({path} is not there to check what the home signed)", next_step=f"Restore {path} from a copy."
        )
    return read_public_keys(path)[0].pem


def publish_keys(settings: Settings, roster: Roster) -> None:
    """Lay the members' public keys out in the home, for whoever verifies what they signed without the ledger."""
    folder = settings.home / KEYS / ROSTER_KEYS
    with storage_errors(f"{folder} could not be written"):
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.pub"):
            if member(roster, file.stem) is None:
                file.unlink()
    for known in roster.members:
        write_whole(folder / f"{known.name}.pub", known.key.encode())


def own_signatory(ledger: Ledger, settings: Settings) -> Signatory:
    """Who signs now: the member that was named, else the one whose key is at hand, else the home.

    Raises SignatureRefused, KeyUnusable.
    """
    roster = current_roster(ledger)
    if roster is None and not settings.identity:
        return Signatory(HOME, home_signer(settings.home / KEYS), 0)
    found = personal_signer(settings, roster)
    if found is not None and roster is not None:
        return Signatory(found[0], found[1], roster.version)
    return Signatory(HOME, home_signer(settings.home / KEYS), roster.version if roster else 0)


def personal_signer(settings: Settings, roster: Roster | None) -> tuple[str, Signer] | None:
    """A member and its private key, from the keys folder of whoever runs this. Raises SignatureRefused, KeyUnusable."""
    if settings.identity:
        who = member(roster, settings.identity) if roster else None
        if who is None:
            raise SignatureRefused(f"{settings.identity} is no member of the roster.")
        signer = read_signer(key_path(settings, who.name), settings.passphrase)
        if signer.public.id != public_key(who.key).id:
            raise SignatureRefused(
                f"The key at {key_path(settings, who.name)} is not the one that the roster has of {who.name}."
            )
        return who.name, signer
    mine = []
    for who in roster.members if roster else ():
        path = key_path(settings, who.name)
        with contextlib.suppress(KeyUnusable):
            if path.exists():
                signer = read_signer(path, settings.passphrase)
                mine += [(who.name, signer)] if signer.public.id == public_key(who.key).id else []
    return mine[0] if len(mine) == 1 else None


def key_path(settings: Settings, name: str) -> Path:
    """Where somebody's private key is expected."""
    assert settings.keys is not None
    return settings.keys / f"{name}.key"


def governor(ledger: Ledger, settings: Settings) -> Signatory:
    """Who signs now, and answers for permission. Raises SignatureRefused."""
    found = own_signatory(ledger, settings)
    roster = current_roster(ledger)
    if roster is not None:
        who = member(roster, found.name)
        if who is None or Role.GOVERNANCE not in who.roles:
            names = ", ".join(known.name for known in holders(roster, Role.GOVERNANCE))
            raise SignatureRefused(
                f"Only who answers for permission may do this: {names}; this would be {found.name}.",
                next_step="Set STILLHOUSE_IDENTITY to your name, and STILLHOUSE_KEYS to the folder of your key.",
            )
    return found
