"""Rebuild a lost home from a copy, or let a home follow another one. The source gets no right here, and is not just believed."""

import contextlib
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import tomlkit
import tomlkit.exceptions

from stillhouse.custody.copies.places import FILES, S3, open_place, settings_files, text_of
from stillhouse.errors import CorruptLog, CorruptObject, HomeError
from stillhouse.home import facts
from stillhouse.home.current_permission import KEYS
from stillhouse.home.ledger import permission_queries
from stillhouse.home.ledger.ledger import Ledger
from stillhouse.home.open_home import FOLLOWS, HOME_VERSION, first_writer, open_objects
from stillhouse.home.progress import Progress
from stillhouse.home.settings import CONFIG, Copy, Settings, read_settings
from stillhouse.permission import chain
from stillhouse.permission.signing_keys import PUBLIC
from stillhouse.vault.copying import Copied, LogEnd, copy_objects, newest_head
from stillhouse.vault.files import storage_errors, sync_file, write_whole
from stillhouse.vault.local import LocalBackend
from stillhouse.vault.locks import locked
from stillhouse.vault.log import Log
from stillhouse.vault.objects import Objects
from stillhouse.vault.writer import segments

_MORE_FILES = re.compile(r"(keys|keys/roster|terms)/[A-Za-z0-9_][A-Za-z0-9_.@-]*\.(pub|toml)")
# A home that follows another writes its own receipts into chains from here on: far above any that the other one has.
_OWN_CHAINS = 9000
_SEGMENT = re.compile(r"w[0-9]{4}/[0-9]{12}\.segment")


def pull(settings: Settings, source: str, endpoint: str, progress: Progress) -> Copied:
    """Make a home follow another home, or rebuild it from a copy. The source needs no right here, and gets none.

    What is here already is never replaced by something else: a log that does not continue this one is refused. Raises CorruptLog,
    CorruptObject, HomeError, StorageError.
    """
    local = open_objects(settings)
    progress.start(f"pull from {source}", 0)
    origin = _origin(source, endpoint)
    bytes_of = {end.writer: origin.bytes_of(end) for end in origin.ends}  # before the objects that they name
    copied = copy_objects(origin.objects, local, lambda done, size: progress.update(done, f"{size:,} bytes"))
    _check_names(origin)
    _check_head(origin, settings, bytes_of)
    with contextlib.ExitStack() as held:
        for end in origin.ends:
            held.enter_context(
                locked(settings.home / "log" / end.writer / "lock", f"{end.writer} of the log is being written")
            )
        _check_continues(_log_of(settings, local), bytes_of)
        for name, text in origin.files.items():
            if not (settings.home / name).exists():
                write_whole(
                    settings.home / name, _without_custodian(text).encode() if name == CONFIG else text.encode()
                )
        for end in origin.ends:
            _take_over(settings.home / "log" / end.writer, end.segment, bytes_of[end.writer])
    if not (settings.home / FOLLOWS).exists():
        taken = [int(end.writer[1:]) for end in origin.ends]
        own = max([_OWN_CHAINS, *(number + 1 for number in taken)])
        write_whole(settings.home / FOLLOWS, f"{own}\n".encode())
    write_whole(settings.home / "VERSION", f"{HOME_VERSION}\n".encode())
    ledger = Ledger(settings.ledger_url)
    try:
        ledger.catch_up(_log_of(settings, local))
    finally:
        ledger.close()
    copied.check()
    progress.finish(f"{copied.added} objects, {copied.bytes:,} bytes")
    return copied


def _check_head(origin: "_Origin", settings: Settings, bytes_of: dict[str, bytes]) -> None:
    """Can what the source has be read, and are its acts of permission signed? Asked before anything of it is taken.

    Raises CorruptLog, ForgedEntry.
    """
    local, acts = open_objects(settings), []
    here = _log_of(settings, local)
    if (settings.home / "VERSION").exists():
        ledger = Ledger(settings.ledger_url)
        try:
            ledger.catch_up(here)
            acts = [act.entry for act in permission_queries.acts(ledger)]
        finally:
            ledger.close()
    own = settings.home / KEYS / PUBLIC
    home = own.read_text() if own.is_file() else origin.files.get(f"{KEYS}/{PUBLIC}", "")
    with tempfile.TemporaryDirectory(dir=settings.home) as scratch:
        staged = Path(scratch)
        for end in origin.ends:
            (staged / end.writer).mkdir()
            (staged / end.writer / end.segment).write_bytes(bytes_of[end.writer])
        _check_says(here, Log(staged, local), acts, home)


def uncover(source: str, endpoint: str) -> int:
    """Restore what somebody hid in a copy (behind delete markers, or in its trash); returns how many names that were.

    Raises StorageError where the credential may not.
    """
    place = open_place(Copy("", source, endpoint=endpoint))
    hidden = [
        (store, key) for store in (place.store, place.heads) for key in store.discarded() if not store.exists(key)
    ]
    return sum(store.recover(key) for store, key in hidden)


def follow(log: Log, source: Log, acts: Sequence[chain.ChainEntry], home: str) -> bool:
    """Take over all that another log has beyond this one; both have the same objects. Repeat it at will.

    What is new is made durable there first, and understood, and its acts of permission are checked behind ``acts``, by the
    ``home``'s key (PEM), before anything of it is taken: so the log that is here can always be used. Returns whether there was
    anything new.

    Raises CorruptLog where the other does not continue this one: entries that are here are missing there, or are others;
    ForgedEntry for an act that is not signed by whom it must be.
    """
    found: dict[str, tuple[str, bytes]] = {}
    for writer in source.writers():
        for name in segments(source.root / writer)[-1:]:
            if not _SEGMENT.fullmatch(f"{writer}/{name}"):
                raise CorruptLog(f"the source names {writer}/{name}, which is no part of a log.")
            with contextlib.suppress(FileNotFoundError):  # it was sealed meanwhile
                sync_file(source.root / writer / name)
        active = source.active(writer)
        if active is not None:
            found[writer] = active
    _check_continues(log, {writer: data for writer, (_, data) in found.items()})
    _check_says(log, source, acts, home)
    changed = False
    for writer, (name, data) in found.items():
        path = log.root / writer / name
        if not path.exists() or path.read_bytes() != data:
            _take_over(path.parent, name, data)
            changed = True
    return changed


def _check_says(log: Log, source: Log, acts: Sequence[chain.ChainEntry], home: str) -> None:
    """Can everything that is new be read, and is every act of permission in it signed? Raises CorruptLog, ForgedEntry."""
    known = {head.writer: head.count for head in log.heads()}
    new: list[chain.ChainEntry] = []
    for writer in source.writers():
        for entry in source.read(writer, known.get(writer, 0)):
            try:
                fact = facts.decode(entry.payload)
            except msgspec.MsgspecError as failure:
                raise CorruptLog(f"entry {entry.position.number} of {writer} cannot be read: {failure}.") from failure
            content = entry_of(fact)
            if content is not None:
                new.append(content)
    if new:
        chain.replay([*acts, *new], home)


def entry_of(fact: facts.Fact) -> chain.ChainEntry | None:
    """The act of permission that a fact is; None where it is none."""
    if not fact.act:
        return None
    signed: Any = fact
    return chain.ChainEntry(getattr(fact, fact.act), signed.plan, signed.previous, signed.signatures)


def _take_over(folder: Path, name: str, data: bytes) -> None:
    write_whole(folder / name, data)
    (folder / name).chmod(0o644)
    for older in segments(folder)[:-1]:
        (folder / older).unlink()


def _log_of(settings: Settings, objects: Objects) -> Log:
    return Log(settings.home / "log", objects, first_writer=first_writer(settings.home))


def _without_custodian(text: str) -> str:
    """Settings for this home: whoever keeps the source's vault does not keep this one. Raises CorruptObject."""
    try:
        settings = tomlkit.parse(text)
    except tomlkit.exceptions.ParseError as failure:
        raise CorruptObject(f"the source's {CONFIG} cannot be read: {failure}.") from failure
    custody = settings.get("custody")
    if isinstance(custody, dict):
        custody.pop("custodian", None)
    return tomlkit.dumps(settings)


def _check_names(origin: "_Origin") -> None:
    """A copy is administered by others: what it names is only taken where such a thing belongs. Raises CorruptObject."""
    wrong = [name for name in origin.files if name not in FILES and not _MORE_FILES.fullmatch(name)]
    wrong += [
        f"{end.writer}/{end.segment}" for end in origin.ends if not _SEGMENT.fullmatch(f"{end.writer}/{end.segment}")
    ]
    if wrong:
        raise CorruptObject(
            f"the source names {wrong[0]!r}, which is no part of a home.", next_step="Trust another copy."
        )


class _Origin(NamedTuple):
    objects: Objects
    ends: tuple[LogEnd, ...]
    files: dict[str, str]
    folder: Path | None

    def bytes_of(self, end: LogEnd) -> bytes:
        """The bytes of an end, from an object or, in a home, from its folder."""
        if self.folder is None:
            return self.objects.get(end.object)
        path = self.folder / end.writer / end.segment
        with storage_errors(f"{path} could not be read"):
            return path.read_bytes()


def _origin(source: str, endpoint: str) -> _Origin:
    """A home, or a copy of one."""
    home = Path(source)
    if not source.startswith(S3) and (home / "VERSION").is_file():
        objects = Objects(LocalBackend(read_settings(home, {}).objects))
        log = Log(home / "log", objects)
        ends = tuple(
            LogEnd(writer, names[-1], "") for writer in log.writers() if (names := segments(log.root / writer))
        )
        files = {name: data for name in settings_files(home) if (data := text_of(home / name))}
        return _Origin(objects, ends, files, log.root)
    place = open_place(Copy("", source, endpoint=endpoint))
    newest = newest_head(place.heads)
    if newest is None:
        raise HomeError(
            f"({source} is neither a home nor a copy of one)",
            next_step="Name the folder or s3:// of one; if it was deleted there, `--uncover` restores it first.",
        )
    return _Origin(place.objects, newest.ends, newest.files, None)


def _check_continues(log: Log, bytes_of: dict[str, bytes]) -> None:
    """Is everything that this log has in the other one, in its place? Raises CorruptLog."""
    for head in log.heads():
        if log.is_own(head.writer):  # what this home found out itself, in a chain that the source has not
            continue
        data = bytes_of.get(head.writer)
        if data is None:
            raise CorruptLog(f"the source has no writer {head.writer}, and this home has {head.count} entries of it.")
        if not log.continues(head, data):
            raise CorruptLog(
                f"the source's chain {head.writer} is not the continuation of the {head.count} entries that are here.",
                next_step="Nothing was changed here. One of the two was cut or altered: compare both before anything else.",
            )
