"""The commands of the vault: snapshots and their way back, holds, garbage, copies, what protects it, data in place."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillhouse.cli.identity import show_outcome
from stillhouse.cli.options import Erasable, HomeFolder, Json, PlanOnly, ProgressAs, opened
from stillhouse.cli.output import Watch, emit, note, progress, table

if TYPE_CHECKING:
    from stillhouse.custody.checks.scrub import Scrub
    from stillhouse.home.open_home import Home

commands = typer.Typer(help="The vault: snapshots of files, kept as objects by digest.", no_args_is_help=True)
Snapshot = Annotated[
    str, typer.Argument(help="A snapshot's digest, its first characters, or its name (the newest of it).")
]


@commands.command()
def snapshot(
    source: Annotated[str, typer.Argument(help="A file, a folder, dataset:NAME@N or model:NAME@N.", metavar="PATH")],
    name: Annotated[str, typer.Option("--name", help="What to call it; else the name of the file or folder.")] = "",
    erasable: Erasable = "",
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Take the rest of what cannot be read, name it, and exit with 1.")
    ] = False,
    home_folder: HomeFolder = None,
    as_json: Json = False,
    watch: ProgressAs = Watch.AUTO,
) -> None:
    """Keep files, durably and deduplicated. What the vault has is not stored again; killed, it resumes where it stopped."""
    import time

    from stillhouse.custody.copies import home_snapshots

    began = time.monotonic()
    with opened(home_folder) as home:
        taken = home_snapshots.snapshot(home, source, name, progress(watch), erasable, skip_unreadable=skip_unreadable)
    value = {
        "snapshot": taken.snapshot,
        "files": taken.files,
        "bytes": taken.bytes,
        "bytes_added": taken.bytes_added,
        "seconds": round(time.monotonic() - began, 3),
        "unchanged": taken.unchanged,
        "skipped": list(taken.skipped),
        "unreadable": list(taken.unreadable),
    }
    skipped = "".join(
        f"\n  not kept (no file, folder, link or pipe; or this home; or a key): {path or '.'}" for path in taken.skipped
    )
    skipped += "".join(f"\n  MISSING, it could not be read: {path or '.'}" for path in taken.unreadable)
    emit(value, as_json, f"{taken.snapshot}\n  {taken.files} files, {taken.bytes_added:,} bytes added{skipped}")
    if taken.unreadable:
        raise typer.Exit(1)


@commands.command("list")
def list_snapshots(
    snapshot: Annotated[
        str, typer.Argument(help="A snapshot, to list what it holds.", metavar="[SNAPSHOT]", show_default=False)
    ] = "",
    path: Annotated[str, typer.Argument(help="Only what it holds at this path and below.", show_default=False)] = "",
    objects: Annotated[bool, typer.Option("--objects", help="The digests of all objects instead.")] = False,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """All snapshots, oldest first; or what one of them holds."""
    from stillhouse.custody.named_objects import dead_nodes
    from stillhouse.errors import ForgedEntry
    from stillhouse.home.ledger import custody_queries

    with opened(home_folder) as home:
        if snapshot:
            _list_entries(home, snapshot, path, as_json)
            return
        if objects:
            digests = list(home.objects.list())
            emit(digests, as_json, "\n".join(digests) or "(none)")
            return
        found = custody_queries.snapshots(home.ledger)
        dead: frozenset[str] = frozenset()
        # Where the chain is forged, what is deleted cannot be decided; what there is can be listed.
        with contextlib.suppress(ForgedEntry):
            dead = dead_nodes(home, custody_queries.mentions(home.ledger))
    gone = {one.snapshot: f"snapshot:{one.snapshot}" in dead for one in found}
    rows = [
        [
            one.snapshot[7:19],
            one.at,
            one.name,
            one.files,
            f"{one.bytes:,}",
            f"{one.added:,}",
            "deleted" * gone[one.snapshot],
        ]
        for one in found
    ]
    heads = ["snapshot", "at", "name", "files", "bytes", "added", ""]
    emit([one.shown() | {"deleted": gone[one.snapshot]} for one in found], as_json, table(heads, rows))


def _list_entries(home: "Home", snapshot: str, path: str, as_json: bool) -> None:
    """One line each, as they come: a snapshot can hold millions."""
    import json
    import sys

    from stillhouse.custody.copies.home_snapshots import listed
    from stillhouse.errors import UnknownName

    count = 0
    for count, entry in enumerate(listed(home, snapshot, path), 1):
        row = {"path": entry.path, "kind": str(entry.kind), "size": entry.size, "mode": f"{entry.mode:04o}"}
        row |= {"target": entry.target} if entry.target else {}
        if as_json:
            sys.stdout.write(("[" if count == 1 else ",\n") + json.dumps(row, ensure_ascii=False))
        else:
            link = f" -> {entry.target}" if entry.target else ""
            sys.stdout.write(f"{entry.kind} {entry.mode:04o} {entry.size:>15,} {entry.path or '.'}{link}\n")
    if not count:
        raise UnknownName(
            f"{snapshot} holds nothing at {path!r}.", next_step="`vault list SNAPSHOT` names what it holds."
        )
    if as_json:
        sys.stdout.write("]\n")


@commands.command()
def restore(
    snapshot: Snapshot,
    target: Annotated[Path, typer.Argument(help="Where to; nothing may be there yet.", metavar="DEST")],
    path: Annotated[str, typer.Option("--path", help="Only what the snapshot has at this path and below.")] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Into a folder that has files: replace those of the same name.")
    ] = False,
    home_folder: HomeFolder = None,
    as_json: Json = False,
    watch: ProgressAs = Watch.AUTO,
) -> None:
    """Get files back, each compared with its digest. Exit code 4, and nothing at DEST, where one is not what was stored."""
    import time

    from stillhouse.custody.copies import home_snapshots
    from stillhouse.vault.restoring import restore, restore_over

    began = time.monotonic()
    with opened(home_folder) as home:
        done = home_snapshots.restore_to(
            home, snapshot, target, path, progress(watch), restore_over if overwrite else restore
        )
    value = {
        "files": done.files,
        "bytes": done.bytes,
        "verified": done.files,
        "seconds": round(time.monotonic() - began, 3),
        "kept": done.kept,
    }
    emit(
        value,
        as_json,
        f"{done.files} files, {done.bytes:,} bytes in {target}; all digests verified",
    )


@commands.command()
def verify(home_folder: HomeFolder = None, as_json: Json = False, watch: ProgressAs = Watch.AUTO) -> None:
    """Read every object and compare it with its digest. Exit code 4 where one differs or is missing."""
    from stillhouse.custody.checks.scrub import scrub as read

    with opened(home_folder) as home:
        found = read(home, None, 0, "", progress(watch))
    text = _named(found) or f"{found.objects} objects read, all digests verified"
    emit({"objects": found.objects, "bad": [one._asdict() for one in found.bad]}, as_json, text)
    if found.bad:
        raise typer.Exit(_damaged())


def _named(found: "Scrub") -> str:
    lines = [f"{one.problem} Hits {', '.join(one.hits[:5]) or 'nothing that is known'}." for one in found.bad]
    return "\n".join(lines)


def _damaged() -> int:
    from stillhouse.errors import IntegrityError

    return IntegrityError.exit_code


@commands.command()
def hold(
    subject: Annotated[str, typer.Argument(help="dataset:NAME@N, snapshot:DIGEST or run:ID.")],
    reason: Annotated[str, typer.Option(help="Why, in a few words.")] = "",
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """From now on this cannot be deleted, until the hold is released."""
    from stillhouse.custody.deletion.deletion import hold as place_hold

    with opened(home_folder) as home:
        id = place_hold(home, subject, reason)
    emit({"hold": id, "subject": subject}, as_json, f"hold {id}: {subject} stays")


@commands.command()
def holds(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """The holds in force."""
    from stillhouse.custody.named_objects import active_holds

    with opened(home_folder) as home:
        found = active_holds(home)
    rows = [[one.at, one.hold, one.subject, one.reason] for one in found]
    emit([one.shown() for one in found], as_json, table(["at", "hold", "what", "why"], rows))


@commands.command()
def release(
    hold: Annotated[str, typer.Argument(help="The hold, or its first characters.")],
    reason: Annotated[str, typer.Option(help="Why, in a few words.")] = "",
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Ask that a hold end. Like a deletion: a second person approves, then `plan execute`."""
    from stillhouse.custody.deletion.deletion import release as release_hold

    with opened(home_folder) as home:
        done = release_hold(home, hold, reason)
    show_outcome(done, as_json)


@commands.command()
def gc(home_folder: HomeFolder = None, plan: PlanOnly = False, as_json: Json = False) -> None:
    """Move unreferenced objects to the trash, and empty the trash of those whose grace period is over."""
    from stillhouse.cli.run import describe_plan
    from stillhouse.custody.deletion.trash import collect, plan_collection

    with opened(home_folder) as home:
        made = plan_collection(home)
        if plan:
            emit(made, as_json, describe_plan(made))
            return
        done = collect(home, made)
    text = f"{done['discarded']} objects to the trash, {done['recovered']} back from it, {done['reclaimed']} removed for good"
    emit(done, as_json, text)


CopyName = Annotated[str, typer.Option("--copy", help="The copy, as [copies] in config.toml names it.")]


@commands.command()
def backup(
    copy: CopyName = "", home_folder: HomeFolder = None, as_json: Json = False, watch: ProgressAs = Watch.AUTO
) -> None:
    """Bring a copy up to date: what it lacks, and where the log stands. Every object is read back there."""
    from stillhouse.custody.copies import places

    with opened(home_folder) as home:
        chosen = places.find_copy(home.settings, copy)
        done = places.backup(home, chosen, progress(watch))
    value = {
        "copy": chosen.name,
        "place": chosen.place,
        "objects": done.objects,
        "added": done.added,
        "bytes": done.bytes,
    }
    emit(value, as_json, f"{chosen.name}: {done.objects} objects, {done.added} of them new ({done.bytes:,} bytes)")


@commands.command()
def pull(
    source: Annotated[str, typer.Argument(help="A home, or a copy of one: a folder or s3://bucket/prefix.")],
    endpoint: Annotated[str, typer.Option(help="The address of an S3-compatible store that is not Amazon's.")] = "",
    uncover: Annotated[
        bool,
        typer.Option("--uncover", help="First restore what was deleted there: behind delete markers, or in its trash."),
    ] = False,
    home_folder: HomeFolder = None,
    as_json: Json = False,
    watch: ProgressAs = Watch.AUTO,
) -> None:
    """Rebuild a lost home from a copy, or let this home follow another one. The source gets no right and no credential here."""
    from stillhouse.custody.copies import pull as pulling
    from stillhouse.home.settings import read_settings

    settings = read_settings(home_folder)
    if uncover:
        note(f"{pulling.uncover(source, endpoint)} names brought back in {source}")
    done = pulling.pull(settings, source, endpoint, progress(watch))
    emit(
        {"home": str(settings.home), "objects": done.objects, "added": done.added, "bytes": done.bytes},
        as_json,
        f"{settings.home}: {done.objects} objects, {done.added} new",
    )


@commands.command()
def scrub(
    copy: CopyName = "",
    sample: Annotated[int, typer.Option(min=0, help="Read so many objects, chosen at random; 0: all of them.")] = 0,
    repair_from: Annotated[
        str,
        typer.Option(help="Repair what is damaged from this copy; with --copy, `home` repairs that copy from here."),
    ] = "",
    home_folder: HomeFolder = None,
    as_json: Json = False,
    watch: ProgressAs = Watch.AUTO,
) -> None:
    """Read what is stored, and name what is damaged or missing and what that hits. Exit code 4 where something stays bad."""
    from stillhouse.custody.checks.scrub import scrub as read
    from stillhouse.custody.copies.places import find_copy

    with opened(home_folder) as home:
        found = read(home, find_copy(home.settings, copy) if copy else None, sample, repair_from, progress(watch))
    sure = (
        f"; with 99 % confidence fewer than {100 * found.at_most:.2f} % are bad"
        if found.at_most and not found.bad
        else ""
    )
    text = f"{found.read} of {found.objects} objects read, {len(found.bad)} bad, {len(found.repaired)} mended{sure}"
    value = {
        "objects": found.objects,
        "read": found.read,
        "bad": [one._asdict() for one in found.bad],
        "repaired": list(found.repaired),
        "bad_at_most": found.at_most,
    }
    emit(value, as_json, f"{_named(found)}\n{text}".lstrip("\n"))
    if len(found.bad) > len(found.repaired):
        raise typer.Exit(_damaged())


@commands.command()
def probe(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Try, with your own rights and on canaries, to destroy what is stored, here and in copies; read what keeps real objects."""
    from stillhouse.custody.protection.protection_status import probe as look

    with opened(home_folder) as home:
        lines = look(home)
    rows = [
        [line.where, line.attacker, "; ".join(line.resists) or "NOTHING", "; ".join(line.does_not_resist), line.basis]
        for line in lines
    ]
    kept = "\n".join(dict.fromkeys(f"{line.where}: {'; '.join(line.mechanisms)}" for line in lines))
    heads = ["copy", "attacker", "resists", "does not resist", "how this is known"]
    emit({"copies": lines}, as_json, f"{kept}\n\n{table(heads, rows)}")


@commands.command()
def register(
    source: Annotated[
        str, typer.Argument(help="A folder, or s3://bucket/prefix of a bucket with versions; none: list.")
    ] = "",
    name: Annotated[str, typer.Option("--name", help="What to call it; else the last part of its place.")] = "",
    endpoint: Annotated[str, typer.Option(help="The address of an S3-compatible store that is not Amazon's.")] = "",
    read: Annotated[
        bool, typer.Option("--read", help="s3: read every object, so that its bytes are known. Files are always read.")
    ] = False,
    home_folder: HomeFolder = None,
    as_json: Json = False,
    watch: ProgressAs = Watch.AUTO,
) -> None:
    """Register data that is too large to copy, by a manifest; nothing is copied or kept here. Repeat it when the data
    changed on purpose: what did not change is not read again.
    """
    from stillhouse.custody import registered_data

    with opened(home_folder) as home:
        if not source:
            known = registered_data.registered(home)
            rows = [[one.name, one.at, one.source, one.files, f"{one.bytes:,}", one.manifest[7:19]] for one in known]
            emit(
                [one.shown() for one in known],
                as_json,
                table(["name", "at", "place", "files", "bytes", "manifest"], rows),
            )
            return
        done = registered_data.register(home, source, name, endpoint, progress(watch), read=read)
    emit(done._asdict(), as_json, f"{done.manifest}\n  {done.files} files, {done.bytes:,} bytes, where they were")


@commands.command()
def examine(
    name: Annotated[str, typer.Argument(help="What `vault register` called it.")],
    sample: Annotated[int, typer.Option(min=0, help="Read so many files, chosen at random; 0: all of them.")] = 0,
    home_folder: HomeFolder = None,
    as_json: Json = False,
    watch: ProgressAs = Watch.AUTO,
) -> None:
    """Compare a registered place with its manifest. Exit code 4 where something has changed."""
    from stillhouse.custody import registered_data

    with opened(home_folder) as home:
        found = registered_data.examine(home, name, sample, progress(watch))
    sure = f"; with 99 % confidence fewer than {100 * found.at_most:.2f} % have other bytes" if found.at_most else ""
    text = [*(f"{one.path}: {one.what}" for one in found.changes), *(f"{path}: new" for path in found.new[:20])]
    text.append(f"{found.files} files, {found.read} read: {len(found.changes)} changes, {len(found.new)} new{sure}")
    if found.unknown:
        text.append(
            f"{found.unknown} are known by size, version and ETag alone: `vault register --read` reads them once"
        )
    value = {**found._asdict(), "changes": [one._asdict() for one in found.changes]}
    emit(value, as_json, "\n".join(text))
    if found.changes:
        raise typer.Exit(_damaged())


@commands.command()
def protect(
    mechanism: Annotated[
        str, typer.Argument(help="modes, flags, custodian or snapshot; none: list what there is and what can be.")
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="custodian: its own folder, on the home's file system, below root's folders."),
    ] = None,
    user: Annotated[
        str, typer.Option("--user", help="custodian: the user that it is; made where there is none.")
    ] = "stillhouse",
    lift: Annotated[bool, typer.Option("--lift", help="modes, flags: take the seal off again.")] = False,
    plan: PlanOnly = False,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Keep the vault's folder from being changed: by modes, by flags, by a user of its own, by a snapshot of the file system."""
    from stillhouse.custody.protection import protect_setup
    from stillhouse.errors import UsageError
    from stillhouse.home.settings import read_settings

    settings = read_settings(home_folder)
    if not mechanism:
        found = protect_setup.available(settings)
        rows = [
            [one.mechanism, "up" if one.up else one.obstacle or "can be", one.resists, one.does_not_resist]
            for one in found
        ]
        emit(
            [one._asdict() for one in found], as_json, table(["mechanism", "here", "resists", "does not resist"], rows)
        )
        return
    if mechanism not in tuple(protect_setup.Mechanism):
        raise UsageError(f"There is no mechanism {mechanism!r}.", next_step="`stillhouse vault protect` lists them.")
    wanted = protect_setup.Mechanism(mechanism)
    steps = (
        protect_setup.plan_lifting(settings, wanted)
        if lift
        else protect_setup.plan_protection(settings, wanted, folder, user)
    )
    said = [step.says for step in steps]
    if not plan:
        protect_setup.carry_out(steps, note)
    value = {"mechanism": wanted, "steps": said, "done": not plan}
    emit(
        value,
        as_json,
        "\n".join(said) if plan else f"{wanted}: done; `stillhouse vault probe` says what the vault resists now",
    )


@commands.command()
def custodian(
    folder: Annotated[Path, typer.Argument(help="The folder that `vault protect custodian` made.", metavar="FOLDER")],
) -> None:
    """Be the only process that writes a vault, until stopped. For systemd; started by root, it becomes the folder's owner."""
    from stillhouse.custody.protection.home_custodian import serve

    serve(folder.absolute(), note)
