"""Homes that earlier versions left, unpacked for a test; and what is asked of them."""

import io
import json
import tarfile
from pathlib import Path

import zstandard

from tests.conftest import Cli

FIXTURES = Path(__file__).parent / "fixtures"
# When they were made: a moment later, so that nothing has expired since.
MOMENT = {"home-1": "2026-11-29T18:00:00Z"}
READ = (
    "status", "teacher list", "gateway key list", "dataset list", "dataset show mixed", "dataset show mixed-unverified",
    "dataset show january", "dataset show survey", "dataset show gathered", "model list", "model show mixed", "model show taught",
    "model show merged", "plan list", "policy explain mock", "policy explain taught@1", "access list", "access retrain mixed",
    "identity list", "lineage show model:merged@1", "lineage show dataset:mixed@1", "lineage impact teacher:mock",
    "lineage impact dataset:january@1", "vault list", "vault holds", "delete list", "drill list",
    "passport verify home/models/mixed-1/passport.json", "passport verify home/models/taught-1/passport.json",
)  # fmt: skip


def unpacked(name: str, folder: Path) -> Cli:
    """A command line in a folder as it was when the home was packed; its view of the log is gone, and rebuilt."""
    raw = zstandard.ZstdDecompressor().stream_reader((FIXTURES / name / "home.tar.zst").read_bytes()).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        tar.extractall(folder, filter="tar")
    cli = Cli(folder)
    cli.environment["STILLHOUSE_KEYS"] = str(folder / "keys-ada")
    return cli


def outputs(cli: Cli) -> dict[str, object]:
    """What the home says to each of the commands, without the folder that it lies in."""
    plans = [f"plan show {one['digest']}" for one in cli("plan", "list", "--json").json]
    found = {}
    for words in (*READ, *plans):
        ran = cli(*words.split(), "--json", code=None)
        found[words] = [ran.code, json.loads(ran.out.replace(str(cli.folder), "FOLDER") or "null")]
    return found


def holds(new: object, old: object) -> bool:
    """Is all of an old JSON value in a new one, unchanged? What is added to it is no change."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(name in new and holds(new[name], value) for name, value in old.items())
    if isinstance(old, list):
        return isinstance(new, list) and len(new) == len(old) and all(map(holds, new, old))
    return type(new) is type(old) and new == old
