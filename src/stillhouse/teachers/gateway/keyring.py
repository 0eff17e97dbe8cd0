"""Keys to the gateway: stored as digests, scoped, revocable at once.

Covered: a stolen ledger or log gives no access (256 random bits, hashed); comparison takes the same time for every key;
guesses are counted per address and then not even looked at for a while; a revocation holds for the next request and the next
chunk of every worker. Not covered: a key that its owner gives away is his; addresses behind one proxy share their guesses.
"""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

import msgspec

from stillhouse.clock import now
from stillhouse.errors import UnknownName
from stillhouse.home import facts
from stillhouse.home.change_marker import ChangeMarker
from stillhouse.home.ledger import gateway_queries
from stillhouse.home.recorder import Recorder
from stillhouse.nouns import GatewayKey

PREFIX = "sk-stillhouse-"
_ID_LETTERS = 8
_GUESSES, _GUESS_SECONDS = 10, 60.0
_ADDRESSES = 10_000


def issue(recorder: Recorder, marker: ChangeMarker, key: GatewayKey) -> tuple[GatewayKey, str]:
    """Make a key with these scopes; returns it and its secret, which is shown once and stored nowhere."""
    id_, secret = secrets.token_hex(_ID_LETTERS // 2), secrets.token_urlsafe(32)
    issued = msgspec.structs.replace(key, id=id_, digest=_digest(secret))
    recorder.record(facts.KeyIssued(at=now(), by=recorder.by, key=issued))
    recorder.refresh()
    marker.mark()
    return issued, f"{PREFIX}{id_}-{secret}"


def revoke(recorder: Recorder, marker: ChangeMarker, name: str, reason: str) -> GatewayKey:
    """Revoke a key, by its id or name. Raises UnknownName."""
    known = gateway_queries.gateway_keys(recorder.ledger)
    for key in known:
        if name in (key.id, key.name) and not known[key]:
            recorder.record(facts.KeyRevoked(at=now(), by=recorder.by, key=key.id, reason=reason or "revoked"))
            recorder.refresh()
            marker.mark()
            return key
    names = ", ".join(f"{key.id} ({key.name})" for key, gone in known.items() if not gone) or "none"
    raise UnknownName(f"No key {name!r} is in force; there is: {names}.")


def _digest(secret: str) -> str:
    return hashlib.blake2b(secret.encode(), digest_size=32, person=b"stillhouse-key").hexdigest()


class Keyring:
    """The keys in force, as one worker knows them. ``clock`` is in seconds and never goes back."""

    def __init__(
        self,
        load: Callable[[], Mapping[GatewayKey, str]],
        marker: ChangeMarker,
        today: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load, self._marker, self._today, self._clock = load, marker, today, clock
        self._keys: dict[str, GatewayKey] = {}
        self._loaded_at: tuple[int, int] | None = None
        self._guesses: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self.version = 0

    def stale(self) -> bool:
        """Has anything been marked as changed since the keys were loaded?"""
        return self._loaded_at is None or self._marker.state() != self._loaded_at

    def reload(self) -> None:
        """Load the keys again. The marker is read first, so that a change meanwhile is found the next time."""
        loaded_at = self._marker.state()
        self._keys = {key.id: key for key, revoked in self._load().items() if not revoked}
        self._loaded_at = loaded_at
        self.version += 1

    def holds(self, key: GatewayKey) -> bool:
        """Is this key still in force?"""
        return key.id in self._keys and not (key.expires and self._today() > key.expires)

    def find(self, secret: str) -> GatewayKey | None:
        """The key of a secret; None for an invalid one. Takes the same time for each."""
        id_, _, rest = secret.removeprefix(PREFIX).partition("-")
        key = self._keys.get(id_)
        expected = key.digest if key else _NOBODY
        same = hmac.compare_digest(_digest(rest), expected)
        return key if key is not None and same and self.holds(key) else None

    def guessed(self, address: str) -> None:
        """Somebody at this address gave an invalid key."""
        since, count = self._guesses.pop(address, (self._clock(), 0))
        if self._clock() - since > _GUESS_SECONDS:
            since, count = self._clock(), 0
        self._guesses[address] = (since, count + 1)
        while len(self._guesses) > _ADDRESSES:
            self._guesses.popitem(last=False)

    def must_wait(self, address: str) -> float:
        """Seconds for which this address is not listened to."""
        since, count = self._guesses.get(address, (0.0, 0))
        left = since + _GUESS_SECONDS - self._clock()
        return left if count >= _GUESSES and left > 0 else 0.0


_NOBODY = _digest("")
