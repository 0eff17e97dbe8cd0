"""Write down, when a run begins, everything that it takes to run it again; and lay it out again.

The recipe, the prompts, the organisation's facts and rules, the code and the list of installed packages go into the vault:
whoever wrote them may leave, and their laptop with them.
"""

import contextlib
import io
import json
import os
import platform
import sys
import tarfile
from pathlib import Path

import msgspec

import stillhouse
from stillhouse import facts
from stillhouse.app.home import App
from stillhouse.canon import canonical
from stillhouse.errors import CorruptObject, UnknownName
from stillhouse.ledger import permission, queries
from stillhouse.recorder import now
from stillhouse.settings.home import CONFIG
from stillhouse.settings.recipe import Recipe
from stillhouse.vault.files import storage_errors, write_whole

PROMPTS = "prompts"


def open_run(app: App, recipe: Recipe) -> None:
    """Write down how a run begins, unless it began just so before. Raises StorageError."""
    inputs = {}
    if recipe.prompts.file:
        path = Path(recipe.folder) / recipe.prompts.file
        inputs = {PROMPTS: app.objects.put(path.read_bytes())} if path.is_file() else {}
    for name in (CONFIG, app.settings.rules.name):
        if (app.settings.home / name).is_file():
            inputs[name] = app.objects.put((app.settings.home / name).read_bytes())
    for file in sorted(app.settings.terms.glob("*.toml")):
        inputs[f"terms/{file.name}"] = app.objects.put(file.read_bytes())
    begun = {
        "run": recipe.run,
        "recipe": app.objects.put(canonical(recipe)),
        "inputs": inputs,
        "code": app.objects.put(code_archive()),
        "environment": app.objects.put(json.dumps(environment(), indent=1).encode()),
        "machine": machine(),
    }
    known = permission.run_opened(app.ledger, recipe.run)
    if known is None or {name: getattr(known, name) for name in begun} != begun:
        app.recorder.record(facts.RunOpened(at=now(), by=app.recorder.by, **begun))  # type: ignore[arg-type]
        app.recorder.refresh()


def stored_run(app: App, name: str) -> facts.RunOpened:
    """What was written down of a run, by its name, or by a dataset or model that came of it. Raises UnknownName."""
    with contextlib.suppress(UnknownName):
        name = queries.model(app.ledger, name).dataset or name
    with contextlib.suppress(UnknownName):
        name = queries.run_of_dataset(app.ledger, queries.dataset(app.ledger, name)) or name
    found = permission.run_opened(app.ledger, name)
    if found is None:
        runs = ", ".join(permission.runs(app.ledger)) or "none"
        raise UnknownName(f"No run {name!r} can be repeated; there is: {runs}.", next_step="`stillhouse dataset list`")
    return found


def recipe_of(app: App, stored: facts.RunOpened, folder: Path) -> Recipe:
    """The recipe of a run, with its prompts laid out in ``folder``. Raises CorruptObject, StorageError."""
    try:
        recipe = msgspec.json.decode(app.objects.get(stored.recipe), type=Recipe)
    except msgspec.MsgspecError as failure:
        raise CorruptObject(f"{stored.recipe} is no recipe that this version can read: {failure}.") from failure
    prompts = stored.inputs.get(PROMPTS)
    if prompts:
        data = app.objects.get(prompts)
        original = Path(recipe.folder) / recipe.prompts.file
        if original.is_file() and original.read_bytes() == data:
            return recipe
        place = folder / recipe.prompts.file.lstrip("/")
        with storage_errors(f"{place} could not be written"):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, data)
        return msgspec.structs.replace(recipe, folder=str(folder))
    return recipe


def code_archive() -> bytes:
    """This package's files as a tar archive: the same bytes for the same files."""
    root = Path(str(stillhouse.__file__)).parent
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                data = path.read_bytes()
                entry = tarfile.TarInfo(f"stillhouse/{path.relative_to(root)}")
                entry.size, entry.mode = len(data), 0o644
                archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def environment() -> dict[str, str]:
    """What is installed, by name: a lock file in all but form."""
    found = {"python": sys.version.split()[0]}
    for folder in sys.path:  # by the names of their folders: reading what each says of itself takes a second
        for place in Path(folder or ".").glob("*.dist-info"):
            name, _, version = place.name.removesuffix(".dist-info").rpartition("-")
            found.setdefault(name.lower().replace("_", "-"), version)
    return dict(sorted(found.items()))


def machine() -> str:
    """The machine as far as numbers may depend on it."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def same_environment(app: App, stored: facts.RunOpened) -> list[str]:
    """In what the present differs from when a run began, in words."""
    found = []
    if stored.code != app.objects.put(code_archive()):
        found.append("code: Stillhouse itself was changed since; the code of then is in the vault as " + stored.code)
    then: dict[str, str] = json.loads(app.objects.get(stored.environment))
    present = environment()
    found += [
        f"package {name}: {then.get(name, 'absent')} then, {present.get(name, 'absent')} now"
        for name in sorted(then.keys() | present.keys())
        if then.get(name) != present.get(name)
    ]
    if stored.machine != machine():
        found.append(f"machine: {stored.machine} then, {machine()} now")
    return found
