"""The story of deleted training data: a script that is kept away, a deletion that is undone, a machine that is wiped and rebuilt.

The rows are made up (reference solutions of this version's own tasks); everything else is real: the guard, the plan, the trash,
the `rm -rf` of a whole home, which is one that is made for that, and the restore, compared byte by byte and timed.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from stillhouse.access.people import standing
from stillhouse.approvals import execute, submit
from stillhouse.canon import digest_bytes
from stillhouse.custody.copies.home_snapshots import restore_to, snapshot
from stillhouse.custody.copies.places import backup
from stillhouse.custody.copies.pull import pull
from stillhouse.custody.deletion.deletion import plan_deletion, undo
from stillhouse.custody.protection.guard_start import plan_for
from stillhouse.custody.protection.protection_status import advisory, probe
from stillhouse.datasets.corpora.origins import Declared
from stillhouse.datasets.import_corpus import ImportRequest, execute_import
from stillhouse.datasets.tasks.suites import load_suite
from stillhouse.errors import ApprovalMissing, IntegrityError
from stillhouse.home.ledger import lineage_graph
from stillhouse.home.open_home import Home, open_home
from stillhouse.home.progress import Progress, Silence
from stillhouse.home.settings import Copy
from stillhouse.nouns import Channel, Use
from stillhouse.runs.report.story_page import Story, StoryStep, write_story
from stillhouse.runs.run_recipe import spread
from stillhouse.runs.stories import Told
from stillhouse.runs.stories.revoked_access import rows_of

_NAME = "story-kept"
_ROWS = 200


def tell(home: Home, progress: Progress) -> Told:
    """Play the story in a home. Raises what its commands raise."""
    with tempfile.TemporaryDirectory(prefix="stillhouse-story-") as scratch:
        return _tell(home, progress, Path(scratch))


def _tell(home: Home, progress: Progress, scratch: Path) -> Told:
    label = _collected(home, scratch, progress)
    node, copy = f"dataset:{label}", Copy("story-copy", str(scratch / "copy"))
    taken = snapshot(home, node, _NAME, progress)
    made = backup(home, copy, progress)
    before = _digests(home, taken.snapshot, scratch / "before")
    steps = [
        StoryStep(
            "The training data",
            f"{label}, kept in the vault and in a copy.",
            (
                f"{taken.files} files, {taken.bytes:,} bytes",
                f"{made.objects} objects in the copy, each read back there",
            ),
        )
    ]
    kept_away = _a_script(home, steps)
    plan, undone = _a_decision(home, node, f"snapshot:{taken.snapshot}", steps)
    seconds, restored, same = _a_wiped_machine(home, copy, taken.snapshot, scratch, before)
    steps.append(
        StoryStep(
            "A wiped machine",
            "Another home, which follows this one, is removed with `rm -rf`, all of it; then it is made again from the copy.",
            (
                f"{restored} files came back in {seconds} s, {'each' if same else 'NOT each'} equal to what was there",
                "what can be lost so is what came since the last backup",
            ),
        )
    )
    lines = probe(home)
    resists = {line.attacker: list(line.resists) for line in lines if line.where == str(home.folder)}
    steps.append(
        StoryStep(
            "What is resisted here",
            "Tried on canaries, with this user's rights, or concluded from modes, owners and flags.",
            tuple(f"{line.attacker}: {'; '.join(line.resists) or 'NOTHING'}" for line in lines),
        )
    )
    edges = tuple(sorted((edge.parent, edge.child, edge.kind) for edge in lineage_graph.ancestry(home.ledger, node)))
    story = Story(
        title="Someone deletes the training data",
        made=home.today,
        conclusion=(
            f"A script that ran `rm -rf` on the vault removed nothing: {kept_away}.",
            f"A deletion that one person ordered: {plan}; {undone} objects came back from the trash.",
            f"A machine that was wiped came back from the copy: {restored} files in {seconds} s, "
            f"{'each' if same else 'NOT each'} equal to what was there.",
            "What this home does not resist is listed at the end.",
        ),
        made_up="The rows are made up: reference solutions of tasks that come with Stillhouse.",
        steps=tuple(steps),
        edges=(*edges, (node, f"snapshot:{taken.snapshot[7:19]}", "kept in")),
        touched=(node,),
    )
    page = write_story(story, home.reports / "story-deleted")
    value = {
        "story": "deleted",
        "report": str(page),
        "dataset": label,
        "kept_away": kept_away,
        "plan": plan,
        "undone": undone,
        "restored": restored,
        "restore_seconds": seconds,
        "identical": same,
        "resists": resists,
    }
    return Told(page, value, story)


def _collected(home: Home, scratch: Path, progress: Progress) -> str:
    path = scratch / "rows.jsonl"
    tasks = spread(load_suite("stillhouse", "train"), _ROWS)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(tasks)), encoding="utf-8")
    declared = Declared(lab="some-lab", channel=Channel.OFFICIAL, terms=("licence/mit",), day=home.today)
    return execute_import(home, ImportRequest(path, _NAME, Use.TRAIN, declared), progress).dataset.label


def _a_script(home: Home, steps: list[StoryStep]) -> str:
    """Run ``rm -rf`` on the objects in a guarded process, where that can be had; returns what it said."""
    guard = plan_for(home.settings, ())
    if guard.problems:
        why = f"not run: {guard.problems[0]}"
        steps.append(StoryStep("A script tidies up", "Here no guard can keep it away, so it was not started.", (why,)))
        return why
    words = [sys.executable, "-m", "stillhouse", "guard", "run", "--home", str(home.folder), "--"]
    done = subprocess.run(
        [*words, "rm", "-rf", str(home.settings.objects)], capture_output=True, text=True, cwd="/", check=False
    )
    bad = [problem for _, problem in home.objects.verify() if problem]
    if bad or not any(True for _ in home.objects.list()):
        raise IntegrityError("(the guard did not keep a script from the objects)")
    said = [line for line in done.stderr.splitlines() if line.startswith("rm: ")]
    line = said[0] if said else "rm said nothing"
    text = "It runs `rm -rf` on the objects, under `guard run`: as this user, root included."
    steps.append(StoryStep("A script tidies up", text, (line, "every object is there, with its bytes")))
    return line


def _a_decision(home: Home, node: str, snapshot_node: str, steps: list[StoryStep]) -> tuple[str, int]:
    """Plan a deletion, carry it out where nobody else must agree, and undo it."""
    plan = plan_deletion(home, [node, snapshot_node], "the story of a deletion")
    asked = submit(home, plan)
    impact = [f"{name}: {_brief(value)}" for name, value in plan.impact.items() if value or isinstance(value, bool)]
    steps.append(
        StoryStep(
            "A decision to delete it",
            "Before anything is done, the plan says what that would mean.",
            tuple(impact),
        )
    )
    try:
        execute(home, asked.digest)
    except ApprovalMissing as failure:
        steps.append(StoryStep("One is not enough", "It waits for a second person.", (str(failure),)))
        return "waits for a second person", 0
    back = int(undo(home, asked.digest)["objects"])
    lines = (*standing(home).advisory, *advisory(home))
    steps.append(
        StoryStep(
            "Done, and undone",
            "Alone, one person can; what went to the trash stays there for 30 days, and comes back.",
            (f"{back} objects back from the trash", *(f"ADVISORY: {line}" for line in lines)),
        )
    )
    return "carried out by one person", back


def _a_wiped_machine(
    home: Home, copy: Copy, wanted: str, scratch: Path, before: dict[str, str]
) -> tuple[float, int, bool]:
    """Make a home, remove it, make it again from the copy and restore; returns how many seconds that took, how many files came
    back, and whether all of them are equal.
    """
    backup(home, copy, Silence())
    root = scratch / "machine"
    settings = msgspec.structs.replace(
        home.settings, home=root, ledger_url=f"sqlite:///{root / 'ledger.db'}", custodian=None, copies=()
    )
    pull(settings, copy.place, "", Silence())
    subprocess.run(["rm", "-rf", str(root)], check=True)
    began = time.monotonic()
    pull(settings, copy.place, "", Silence())
    with open_home(settings) as again:
        after = _digests(again, wanted, scratch / "after")
    return round(time.monotonic() - began, 2), len(after), after == before


def _digests(home: Home, wanted: str, target: Path) -> dict[str, str]:
    """Restore a snapshot, and name each of its files by its bytes."""
    restore_to(home, wanted, target, "", Silence())
    found = {str(path.relative_to(target)): digest_bytes(path.read_bytes()) for path in _files(target)}
    shutil.rmtree(target)
    return found


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {content}" for name, content in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
