"""Write a model's passport, and verify anybody's."""

import hashlib
from pathlib import Path

from stillhouse import facts
from stillhouse.app.home import App
from stillhouse.canon import canonical, digest_bytes
from stillhouse.errors import UsageError
from stillhouse.identity.keys import PUBLIC, PublicKey, home_signer, read_public_keys
from stillhouse.ledger import queries
from stillhouse.nouns import Use
from stillhouse.passport.check import Checked, check, digests_of
from stillhouse.passport.envelope import seal
from stillhouse.passport.statement import DATASET, Digests, Made, make_statement
from stillhouse.recorder import now
from stillhouse.students.models import check_files
from stillhouse.vault.files import write_whole

FILE, KEYS = "passport.json", "keys"


def write_passport(app: App, label: str, target: Path | None = None) -> Path:
    """Write the passport of a model beside its weights, or to ``target``. Raises UnknownName, CorruptObject, KeyUnusable."""
    model = queries.model(app.ledger, label)
    check_files(app.places, model)
    dataset = queries.dataset(app.ledger, model.dataset)
    sets = queries.stamp_sets(app.ledger)
    stamps = sets[model.stamps]
    made = Made(
        model=model,
        dataset=dataset,
        stamps=stamps,
        rows_by_stamps={id: sets[int(id)] for id in dataset.stamp_sets},
        decisions=[app.recorder.policy.decide_set(stamps.stamps, use) for use in Use],
        evaluations=queries.evaluations(app.ledger, model.label),
    )
    folder = app.settings.home / model.folder
    files = {name: digests_of(folder / name) for name in model.files}
    for name, digest in dataset.files.items():
        data = app.objects.get(digest)
        files[f"{DATASET}/{name}"] = Digests(digest.partition(":")[2], hashlib.sha256(data).hexdigest())
    signer = home_signer(app.settings.home / KEYS)
    envelope = seal(canonical(make_statement(made, files, signer.public.pem, now())), signer)
    path = target or folder / FILE  # beside the weights, where `verify` looks for them
    write_whole(path, envelope)
    written = facts.PassportWritten(
        at=now(), by=app.recorder.by, model=model.label, digest=digest_bytes(envelope), signer=signer.public.id
    )
    app.recorder.record(written)
    app.recorder.refresh()
    return path


def verify_passport(path: Path, trust: Path | None, folder: Path | None, home: Path) -> Checked:
    """Verify a passport; without ``trust``, the key of the home at hand is trusted, where there is one."""
    roots: list[PublicKey] = []
    if trust is not None:
        if not trust.exists():
            raise UsageError(f"{trust} does not exist.")
        roots = read_public_keys(trust)
    elif (home / KEYS / PUBLIC).is_file():
        roots = read_public_keys(home / KEYS / PUBLIC)
    return check(path, folder or path.parent, roots)
