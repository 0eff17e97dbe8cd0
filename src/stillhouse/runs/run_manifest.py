"""Write down, when a run begins, everything that it takes to run it again; and lay it out again.

The recipe, the prompts, the organisation's facts and rules, the code and the list of installed packages go into the vault:
whoever wrote them may leave, and their laptop with them.
"""

import contextlib
import io
import json
import tarfile
from pathlib import Path

import msgspec

import stillhouse
from stillhouse.canon import canonical
from stillhouse.clock import now
from stillhouse.errors import CorruptObject, UnknownName
from stillhouse.home import facts
from stillhouse.home.environment import environment, machine
from stillhouse.home.ledger import dataset_queries, permission_queries, training_queries
from stillhouse.home.open_home import Home
from stillhouse.home.policy_documents import ORGANISATION, PRICES, read_drafts
from stillhouse.home.settings import CONFIG
from stillhouse.runs.recipe import Recipe
from stillhouse.runs.stored_prompts import store_prompts, stored_prompts
from stillhouse.vault.files import storage_errors, write_whole


def open_run(home: Home, recipe: Recipe) -> None:
    """Write down how a run begins, unless it began just so before. Raises StorageError."""
    inputs = {}
    if recipe.prompts.file:
        path = Path(recipe.folder) / recipe.prompts.file
        inputs = store_prompts(home.objects, path.read_bytes()) if path.is_file() else {}
    documents = read_drafts(home.settings).documents.bytes  # what cannot be read decides nothing, either
    inputs |= {name: home.objects.put(data) for name, data in documents.items() if name not in (ORGANISATION, PRICES)}
    if (home.folder / CONFIG).is_file():
        inputs[CONFIG] = home.objects.put((home.folder / CONFIG).read_bytes())
    begun = {
        "run": recipe.run,
        "recipe": home.objects.put(canonical(recipe)),
        "inputs": inputs,
        "code": home.objects.put(code_archive()),
        "environment": home.objects.put(json.dumps(environment(), indent=1).encode()),
        "machine": machine(),
    }
    known = permission_queries.run_opened(home.ledger, recipe.run)
    if known is None or {name: getattr(known, name) for name in begun} != begun:
        home.recorder.record(facts.RunOpened(at=now(), by=home.recorder.by, **begun))  # type: ignore[arg-type]
        home.recorder.refresh()


def stored_run(home: Home, name: str) -> facts.RunOpened:
    """What was written down of a run, by its name, or by a dataset or model that came of it. Raises UnknownName."""
    with contextlib.suppress(UnknownName):
        name = training_queries.model(home.ledger, name).dataset or name
    with contextlib.suppress(UnknownName):
        name = dataset_queries.run_of_dataset(home.ledger, dataset_queries.dataset(home.ledger, name)) or name
    found = permission_queries.run_opened(home.ledger, name)
    if found is None:
        runs = ", ".join(permission_queries.runs(home.ledger)) or "none"
        raise UnknownName(f"No run {name!r} can be repeated; there is: {runs}.", next_step="`stillhouse dataset list`")
    return found


def recipe_of(home: Home, stored: facts.RunOpened, folder: Path) -> Recipe:
    """The recipe of a run, with its prompts laid out in ``folder``. Raises CorruptObject, StorageError."""
    try:
        recipe = msgspec.json.decode(home.objects.get(stored.recipe), type=Recipe)
    except msgspec.MsgspecError as failure:
        raise CorruptObject(f"{stored.recipe} is no recipe that this version can read: {failure}.") from failure
    data = stored_prompts(home.objects, stored.inputs)
    if data is not None:
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


def same_environment(home: Home, stored: facts.RunOpened) -> list[str]:
    """In what the present differs from when a run began, in words."""
    found = []
    if stored.code != home.objects.put(code_archive()):
        found.append(
            "code: Stillhouse itself was changed since; the code of that time is in the vault as " + stored.code
        )
    then: dict[str, str] = json.loads(home.objects.get(stored.environment))
    present = environment()
    found += [
        f"package {name}: {then.get(name, 'absent')} then, {present.get(name, 'absent')} now"
        for name in sorted(then.keys() | present.keys())
        if then.get(name) != present.get(name)
    ]
    if stored.machine != machine():
        found.append(f"machine: {stored.machine} then, {machine()} now")
    return found
