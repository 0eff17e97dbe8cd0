"""Who acts, and what is permitted as of now: the chain of permission, checked before anything in it counts."""

import contextlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from stillhouse.errors import ForgedEntry, KeyUnusable, SignatureRefused
from stillhouse.home.ledger import permission_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.ledger.permission_queries import SignedAct
from stillhouse.home.policy_documents import PolicyDocuments, in_force
from stillhouse.home.settings import Settings
from stillhouse.nouns import AccessChange, Role, Roster, Waiver
from stillhouse.permission.acts.act import ChainState
from stillhouse.permission.chain import replay
from stillhouse.permission.decide import Policy, latest_end
from stillhouse.permission.external_keys import signer_of
from stillhouse.permission.roster import holders, member
from stillhouse.permission.signatures import HOME, Signatory
from stillhouse.permission.signing_keys import (
    PRIVATE,
    PUBLIC,
    Signer,
    home_signer,
    public_key,
    read_public_keys,
)
from stillhouse.vault.files import storage_errors, write_whole
from stillhouse.vault.objects import Objects

KEYS, ROSTER_KEYS = "keys", "roster"
# The newest act of permission that this home has seen, beside the ledger: who takes the last one out of the view is found.
HEAD = "permission.head"


class Permission(NamedTuple):
    """The chain's state, and its entries as they were written down."""

    state: ChainState
    acts: tuple[SignedAct, ...]


def load(ledger: Ledger, settings: Settings) -> Permission:
    """Read the chain and check all of it. Raises ForgedEntry."""
    head = _read_head(settings)  # before the acts: an older head is in every newer chain
    acts = permission_queries.acts(ledger)
    if not acts and not head:
        return Permission(ChainState(), ())
    try:
        return _replayed(acts, settings, head)
    except ForgedEntry:
        again = permission_queries.acts(ledger)
        if again == acts:
            raise
        return _replayed(again, settings, head)  # somebody wrote while it was read


def _replayed(acts: list[SignedAct], settings: Settings, head: str) -> Permission:
    return Permission(replay([act.entry for act in acts], home_key(settings), head), tuple(acts))


def keep_head(settings: Settings, head: str) -> None:
    """Remember the newest act of permission. Raises StorageError."""
    write_whole(settings.home / HEAD, f"{head}\n".encode())


def _read_head(settings: Settings) -> str:
    try:
        return (settings.home / HEAD).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as failure:
        raise ForgedEntry(f"({settings.home / HEAD} cannot be read: {failure})") from failure


def load_policy(ledger: Ledger, settings: Settings, objects: Objects, today: str) -> Policy:
    """Everything that decides, as of now. Raises ForgedEntry, CorruptObject, TermsError, RuleError."""
    permission = load(ledger, settings)
    return policy_of(in_force(settings, permission.state, objects), permission, today)


def policy_of(documents: PolicyDocuments, permission: Permission, today: str) -> Policy:
    """What decides where this was permitted. Raises TermsError, RuleError."""
    given = {act.entry.content.id: act.at for act in permission.acts if isinstance(act.entry.content, Waiver)}
    # One from before there was a limit ends a year after it was given, too.
    waivers = [
        msgspec.structs.replace(waiver, expires=min(waiver.expires, latest_end(given[waiver.id][:10])))
        for waiver in permission.state.of(Waiver)
    ]
    changes = permission.state.of(AccessChange)
    return Policy(documents.organisation, documents.registry, documents.rules, changes, waivers, today)


def current_roster(ledger: Ledger, settings: Settings) -> Roster | None:
    """The roster in force; None before there was one. Raises ForgedEntry."""
    return load(ledger, settings).state.roster


def home_key(settings: Settings) -> str:
    """The home's public key (PEM), by which what it signed is checked. Raises ForgedEntry where it is gone, KeyUnusable."""
    folder = settings.home / KEYS
    if (folder / PUBLIC).is_file():
        return read_public_keys(folder / PUBLIC)[0].pem
    if (folder / PRIVATE).is_file():
        return home_signer(folder).public.pem
    raise ForgedEntry(
        f"({folder / PUBLIC} is not there to check what the home signed)", next_step=f"Restore {folder} from a copy."
    )


def own_home_key(settings: Settings) -> str:
    """The same, for whoever is about to write: its private part must be there, or neither of them is yet. Raises KeyUnusable."""
    return home_signer(settings.home / KEYS).public.pem


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
    """Who signs now: the member that was named, else the one whose key is found, else the home.

    Raises SignatureRefused, KeyUnusable.
    """
    roster = current_roster(ledger, settings)
    found = personal_signer(settings, roster) if roster is not None else None
    if found is not None and roster is not None:
        return Signatory(found[0], found[1], roster.version)
    return Signatory(HOME, home_signer(settings.home / KEYS), roster.version if roster else 0)


def personal_signer(settings: Settings, roster: Roster | None) -> tuple[str, Signer] | None:
    """A member and its private key, from the keys folder of whoever runs this. Raises SignatureRefused, KeyUnusable."""
    if settings.identity:
        who = member(roster, settings.identity) if roster else None
        if who is None:
            raise SignatureRefused(f"{settings.identity} is no member of the roster.")
        signer = enrolled_signer(settings, who.name, who.key)
        if signer is None:
            path = key_path(settings, who.name)
            if path.exists():
                signer_of(path, settings.passphrase)  # where it cannot be used, that is what is to be said
            raise SignatureRefused(f"The key at {path} is not the one that the roster has of {who.name}.")
        return who.name, signer
    mine = []
    for who in roster.members if roster else ():
        signer = enrolled_signer(settings, who.name, who.key)
        mine += [(who.name, signer)] if signer is not None else []
    return mine[0] if len(mine) == 1 else None


def enrolled_signer(settings: Settings, name: str, pem: str) -> Signer | None:
    """Somebody's private key that belongs to a public one: the present one, or the one that a rotation has made."""
    for path in (key_path(settings, name), next_key_path(settings, name)):
        with contextlib.suppress(KeyUnusable):
            if path.exists():
                signer = signer_of(path, settings.passphrase)
                if signer.public.id == public_key(pem).id:
                    return signer
    return None


def key_path(settings: Settings, name: str) -> Path:
    """Where somebody's private key is expected."""
    assert settings.keys is not None
    return settings.keys / f"{name}.key"


def next_key_path(settings: Settings, name: str) -> Path:
    """Where a key waits that is to take the present one's place."""
    return key_path(settings, name).with_suffix(".next.key")


def governor(ledger: Ledger, settings: Settings, roles: tuple[Role, ...] = (Role.GOVERNANCE,)) -> Signatory:
    """Who signs now, and answers for what is to be done. Raises SignatureRefused."""
    found = own_signatory(ledger, settings)
    roster = current_roster(ledger, settings)
    if roster is not None:
        who = member(roster, found.name)
        if who is None or not any(role in who.roles for role in roles):
            names = ", ".join(dict.fromkeys(known.name for role in roles for known in holders(roster, role)))
            raise SignatureRefused(
                f"Only who answers for permission, or for this, may do it: {names}; this would be {found.name}.",
                next_step="Set STILLHOUSE_IDENTITY to your name, and STILLHOUSE_KEYS to the folder of your key.",
            )
    return found
