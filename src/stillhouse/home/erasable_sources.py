"""Sources that can be erased: their keys, and destroying them.

The keys lie in key stores (folders, two at least, in no copy of the vault), each in a file that only its owner reads. An erasure
is a plan of two persons in the chain of permission. It is written down first and done then: a kill before the keys are gone
leaves one that `status` calls unfinished, and that every `tick` finishes.
"""

import contextlib
import os
import re
import secrets
import shutil
from pathlib import Path

from stillhouse.clock import now
from stillhouse.errors import CorruptObject, ForgedEntry, KeyMissing, SourceErased, StorageError, UsageError
from stillhouse.home import facts
from stillhouse.home.current_permission import load
from stillhouse.home.ledger import custody_queries
from stillhouse.home.open_home import Home
from stillhouse.nouns import Erasure
from stillhouse.permission.signing_keys import write_private
from stillhouse.vault.erasable import KEY_BYTES, ErasableObjects, key_digest
from stillhouse.vault.files import storage_errors, sync_folder
from stillhouse.vault.objects import Objects

# The key is what all copies of the data hang on: one place for it is none.
STORES = 2
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def check_source(home: Home, source: str) -> None:
    """May something become erasable as this? Raises UsageError, SourceErased."""
    if not _NAME.fullmatch(source):
        raise UsageError(f"{source!r} is no name of a source: lower-case letters, digits, dot, dash and underscore.")
    if source in _erased(home):
        raise SourceErased(f"({source})")


def key_for(home: Home, source: str) -> bytes:
    """The key of a source, made where it has none yet. Raises UsageError, SourceErased, KeyMissing, StorageError, HomeBusy.

    The name stays in the log for ever: it must say nothing that is to be erased.
    """
    check_source(home, source)
    known = _keys_of(home, source)
    if not known:
        with home.alone("erasure-keys"):  # two first ones at once would make two keys
            home.recorder.refresh()
            known = _keys_of(home, source) or [_make_key(home, source)]
    for one in custody_queries.keys_of_source(home.ledger, source):
        check_claim(one)
    return key_of(home, known[0])


def check_claim(key: custody_queries.ErasureKey) -> None:
    """Raises ForgedEntry where a second source claims a key: who destroys it would not know what becomes unreadable."""
    if key.others:
        raise ForgedEntry(f"({', '.join((key.source, *key.others))} are all said to have the key {key.key})")


def key_of(home: Home, name: str) -> bytes:
    """A key by its digest, from any store that has it. Raises SourceErased, KeyMissing."""
    erased = _erased_keys(home)
    if name in erased:
        raise SourceErased(f"({erased[name]})")
    for store in home.settings.key_stores:
        key = _read(_path(store, name), name)
        if key is not None:
            return key
    raise KeyMissing(f"({name}; looked in {', '.join(map(str, home.settings.key_stores))})")


def objects_of(home: Home, source: str) -> Objects:
    """Where the bytes of a source lie: encrypted with its key, if it is one that can be erased. Makes no key.

    Raises SourceErased, KeyMissing.
    """
    if not source:
        return home.objects
    known = _keys_of(home, source)
    if not known:
        raise KeyMissing(f"(of {source}, which the log knows none of)")
    return ErasableObjects(home.objects, key_of(home, known[0]))


def cache_of(home: Home, name: str) -> Path:
    """What is remembered of a source so that it is not stored twice: digests and names, which go with its key."""
    return home.cache / "erasable" / name.replace(":", "-")


def finish(home: Home) -> tuple[str, ...]:
    """Destroy the keys of every source that is erased, and what is remembered of it; returns whose that now was done for.

    Raises StorageError where a key store cannot be reached: the key may be in it, and the erasure is not finished.
    """
    done = []
    for one in unfinished(home):
        places = []
        for store in home.settings.key_stores:
            if not store.is_dir():
                raise StorageError(
                    f"The key store {store} is not there, so it is not known whether the key of {one.source} is gone.",
                    next_step="Mount it, then run `stillhouse tick`; or take it out of config.toml if it was destroyed.",
                )
            path = _path(store, one.key)
            with storage_errors(f"{path} could not be destroyed"):
                with contextlib.suppress(FileNotFoundError):
                    _overwrite(path)
                    path.unlink()
                sync_folder(store)
            places.append(str(store))
        shutil.rmtree(cache_of(home, one.key), ignore_errors=True)
        shutil.rmtree(home.cache / "imports", ignore_errors=True)  # how far imports are that were stopped
        home.recorder.record(
            facts.ErasureKeyDestroyed(
                at=now(), by=home.recorder.by, source=one.source, key=one.key, places=tuple(places)
            )
        )
        done.append(one.source)
    home.recorder.refresh()
    return tuple(done)


def unfinished(home: Home) -> list[custody_queries.ErasureKey]:
    """The keys that signed erasures name, and that were not destroyed, or stand in a store all the same.

    Which key is destroyed is what two persons signed, and nothing that the log says of a source besides.
    """
    known = custody_queries.erasure_keys(home.ledger)
    return [
        custody_queries.ErasureKey(source, key, destroyed=False)
        for key, source in _erased_keys(home).items()
        if not (key in known and known[key].destroyed)
        or any(_path(store, key).exists() for store in home.settings.key_stores)
    ]


def lacking(home: Home) -> dict[str, int]:
    """The sources whose key is in fewer places than it must be, and in how many it is."""
    found = {}
    for one in _living(home):
        whole = sum(_read(_path(store, one.key), one.key) is not None for store in home.settings.key_stores)
        if whole < STORES:
            found[one.source] = whole
    return found


def spread(home: Home) -> int:
    """Copy every key into each store that lacks it; returns how many were written. Raises StorageError."""
    written = 0
    for one in _living(home):
        with contextlib.suppress(KeyMissing):
            key = key_of(home, one.key)
            for store in home.settings.key_stores:
                path = _path(store, one.key)
                if _read(path, one.key) is None:
                    if path.exists():
                        raise CorruptObject(
                            f"{path} is not the key that it should be.",
                            next_step=f"Remove {path}: another store has it.",
                        )
                    write_private(path, key.hex().encode())
                    written += 1
    return written


def _erased(home: Home) -> set[str]:
    return {erasure.source for erasure in load(home.ledger, home.settings).state.of(Erasure)}


def _erased_keys(home: Home) -> dict[str, str]:
    """The keys that signed erasures name, and of which source each is."""
    return {erasure.key: erasure.source for erasure in load(home.ledger, home.settings).state.of(Erasure)}


def _keys_of(home: Home, source: str) -> list[str]:
    return [one.key for one in custody_queries.keys_of_source(home.ledger, source)]


def _make_key(home: Home, source: str) -> str:
    key = secrets.token_bytes(KEY_BYTES)
    name = key_digest(key)
    for store in home.settings.key_stores:  # in every one, or nothing is encrypted with it
        write_private(_path(store, name), key.hex().encode())
    home.recorder.record(facts.ErasureKeyMade(at=now(), by=home.recorder.by, source=source, key=name))
    home.recorder.refresh()
    return name


def _living(home: Home) -> list[custody_queries.ErasureKey]:
    erased = _erased_keys(home)
    return [one for one in custody_queries.erasure_keys(home.ledger).values() if one.key not in erased]


def _path(store: Path, name: str) -> Path:
    return store / f"{name.rpartition(':')[2]}.key"


def _read(path: Path, name: str) -> bytes | None:
    """The key of a file, if it is the one of this digest."""
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return key if key_digest(key) == name else None


def _overwrite(path: Path) -> None:
    """On a disk that writes in place the key is gone at once; on others, and in a file system's snapshots, it is not."""
    path.chmod(0o600)
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.write(descriptor, bytes(os.fstat(descriptor).st_size))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
