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

from stillhouse.app.approvals import execute, submit
from stillhouse.app.copies import backup
from stillhouse.app.corpora import execute_import, plan_import
from stillhouse.app.deletion import plan_deletion, undo
from stillhouse.app.guarding import plan_for
from stillhouse.app.home import App, open_app
from stillhouse.app.people import standing
from stillhouse.app.progress import Progress, Silence
from stillhouse.app.protection import advisory, probe
from stillhouse.app.pulling import pull
from stillhouse.app.run import spread
from stillhouse.app.stories import Told
from stillhouse.app.stories.revoked import rows_of
from stillhouse.app.vault import restore_to, snapshot
from stillhouse.canon import digest_bytes
from stillhouse.datasets.corpora.origins import Declared
from stillhouse.errors import ApprovalMissing, IntegrityError
from stillhouse.ledger import lineage
from stillhouse.nouns import Channel, Use
from stillhouse.report.story import Story, StoryStep, write_story
from stillhouse.settings.home import Copy
from stillhouse.tasks.suites import load_suite

_NAME = "story-kept"
_ROWS = 200


def tell(app: App, progress: Progress) -> Told:
    """Play the story in a home. Raises what its commands raise."""
    with tempfile.TemporaryDirectory(prefix="stillhouse-story-") as scratch:
        return _tell(app, progress, Path(scratch))


def _tell(app: App, progress: Progress, scratch: Path) -> Told:
    label = _collected(app, scratch, progress)
    node, copy = f"dataset:{label}", Copy("story-copy", str(scratch / "copy"))
    taken = snapshot(app, node, _NAME, progress)
    made = backup(app, copy, progress)
    before = _digests(app, taken.snapshot, scratch / "before")
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
    kept_away = _a_script(app, steps)
    plan, undone = _a_decision(app, node, f"snapshot:{taken.snapshot}", steps)
    seconds, restored, same = _a_wiped_machine(app, copy, taken.snapshot, scratch, before)
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
    lines = probe(app)
    resists = {line.attacker: list(line.resists) for line in lines if line.where == str(app.settings.home)}
    steps.append(
        StoryStep(
            "What is resisted here",
            "Tried on canaries, with this user's rights, or concluded from modes, owners and flags.",
            tuple(f"{line.attacker}: {'; '.join(line.resists) or 'NOTHING'}" for line in lines),
        )
    )
    edges = tuple(sorted((edge.parent, edge.child, edge.kind) for edge in lineage.ancestry(app.ledger, node)))
    story = Story(
        title="Someone deletes the training data",
        made=app.today,
        made_up="The rows are made up: reference solutions of tasks that come with Stillhouse.",
        steps=tuple(steps),
        edges=(*edges, (node, f"snapshot:{taken.snapshot[7:19]}", "kept in")),
        touched=(node,),
    )
    page = write_story(story, app.reports / "story-deleted")
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
    return Told(page, value)


def _collected(app: App, scratch: Path, progress: Progress) -> str:
    path = scratch / "rows.jsonl"
    tasks = spread(load_suite("stillhouse", "train"), _ROWS)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(tasks)), encoding="utf-8")
    declared = Declared(lab="some-lab", channel=Channel.OFFICIAL, terms=("licence/mit",), day=app.today)
    planned = plan_import(app, path, _NAME, Use.TRAIN, declared, progress)
    return execute_import(app, path, _NAME, Use.TRAIN, declared, planned, progress).label


def _a_script(app: App, steps: list[StoryStep]) -> str:
    """Run ``rm -rf`` on the objects in a guarded process, where that can be had; returns what it said."""
    guard = plan_for(app.settings, ())
    if guard.problems:
        why = f"not run: {guard.problems[0]}"
        steps.append(StoryStep("A script tidies up", "Here no guard can keep it away, so it was not started.", (why,)))
        return why
    words = [sys.executable, "-m", "stillhouse", "guard", "run", "--home", str(app.settings.home), "--"]
    done = subprocess.run(
        [*words, "rm", "-rf", str(app.settings.objects)], capture_output=True, text=True, cwd="/", check=False
    )
    bad = [problem for _, problem in app.objects.verify() if problem]
    if bad or not any(True for _ in app.objects.list()):
        raise IntegrityError("(the guard did not keep a script from the objects)")
    said = [line for line in done.stderr.splitlines() if line.startswith("rm: ")]
    line = said[0] if said else "rm said nothing"
    text = "It runs `rm -rf` on the objects, under `guard run`: as this user, root included."
    steps.append(StoryStep("A script tidies up", text, (line, "every object is there, with its bytes")))
    return line


def _a_decision(app: App, node: str, snapshot_node: str, steps: list[StoryStep]) -> tuple[str, int]:
    """Plan a deletion, carry it out where nobody else must agree, and undo it."""
    plan = plan_deletion(app, [node, snapshot_node], "the story of a deletion")
    asked = submit(app, plan)
    impact = [f"{name}: {_brief(value)}" for name, value in plan.impact.items() if value or isinstance(value, bool)]
    steps.append(
        StoryStep(
            "Somebody decides to delete it",
            "Before anything is done, the plan says what that would mean.",
            tuple(impact),
        )
    )
    try:
        execute(app, asked.digest)
    except ApprovalMissing as failure:
        steps.append(StoryStep("One is not enough", "It waits for a second person.", (str(failure),)))
        return "waits for a second person", 0
    back = int(undo(app, asked.digest)["objects"])
    lines = (*standing(app).advisory, *advisory(app))
    steps.append(
        StoryStep(
            "Done, and undone",
            "Alone, one person can; what went to the trash stays there for 30 days, and comes back.",
            (f"{back} objects back from the trash", *(f"ADVISORY: {line}" for line in lines)),
        )
    )
    return "carried out by one person", back


def _a_wiped_machine(
    app: App, copy: Copy, wanted: str, scratch: Path, before: dict[str, str]
) -> tuple[float, int, bool]:
    """Make a home, remove it, make it again from the copy and restore; returns how many seconds that took, how many files came
    back, and whether all of them are equal.
    """
    backup(app, copy, Silence())
    home = scratch / "machine"
    settings = msgspec.structs.replace(
        app.settings, home=home, ledger_url=f"sqlite:///{home / 'ledger.db'}", custodian=None, copies=()
    )
    pull(settings, copy.place, "", Silence())
    subprocess.run(["rm", "-rf", str(home)], check=True)
    began = time.monotonic()
    pull(settings, copy.place, "", Silence())
    with open_app(settings) as again:
        after = _digests(again, wanted, scratch / "after")
    return round(time.monotonic() - began, 2), len(after), after == before


def _digests(app: App, wanted: str, target: Path) -> dict[str, str]:
    """Restore a snapshot, and name each of its files by its bytes."""
    restore_to(app, wanted, target, "", Silence())
    found = {str(path.relative_to(target)): digest_bytes(path.read_bytes()) for path in _files(target)}
    shutil.rmtree(target)
    return found


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {content}" for name, content in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
