"""Promise 6. The last verified copy cannot be removed by one person, program, credential, bug or crash, where copies sit in two
administrative domains that share no credential. Elsewhere `status` says exactly what is resisted and what is not.

The domains here: a vault that only its custodian writes, with a bucket that keeps every version (COMPLIANCE); and a home of
another user, which follows the first. Not covered: whoever administers both; closing an account; what was stored since the last
backup; two persons who agree.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.users import OTHER, OWNER, CliAs, kept, owner, place, run_as  # noqa: F401
from tests.vaults import tree

BUCKET = "vault"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def server(monkeypatch) -> Iterator[str]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    program = Path(__file__).parents[1] / "s3_server.py"
    process = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    process.kill()
    process.communicate()


def everything(url: str):
    """A client with the backup's credential, and all versions that it can see."""
    import boto3

    client = boto3.client("s3", endpoint_url=url)
    found = client.list_object_versions(Bucket=BUCKET)
    return client, [(one["Key"], one["VersionId"]) for one in found.get("Versions", [])]


def make_bucket(url: str, *, locks: bool) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=url)
    client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=locks)
    if not locks:
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    client.close()


def steal(url: str) -> tuple[int, int]:
    """Remove every version that the credential can remove; returns how many went, and how many stayed."""
    import botocore.exceptions

    client, versions = everything(url)
    gone = 0
    for key, version in versions:
        with contextlib.suppress(botocore.exceptions.ClientError):
            client.put_object_retention(
                Bucket=BUCKET, Key=key, VersionId=version, BypassGovernanceRetention=True,
                Retention={"Mode": "COMPLIANCE", "RetainUntilDate": "2020-01-01T00:00:00Z"},
            )  # fmt: skip
        try:
            client.delete_object(Bucket=BUCKET, Key=key, VersionId=version, BypassGovernanceRetention=True)
            gone += 1
        except botocore.exceptions.ClientError:
            client.delete_object(Bucket=BUCKET, Key=key)  # at least hide it behind a marker
    client.close()
    return gone, len(versions) - gone


def make_data(folder: Path) -> Path:
    folder.mkdir()
    for n in range(4):
        (folder / f"{n}.jsonl").write_text("".join(json.dumps({"n": m, "of": n}) + "\n" for m in range(1500)))
    return folder


def configure(cli: Cli, text: str) -> None:
    config = cli.home / "config.toml"
    text = config.read_text() + "\n" + text
    config.unlink()
    config.write_text(text)
    shutil.chown(config, cli.home.stat().st_uid)


def comes_back(source: str, folder: Path, expected: dict, *words: str, user: str = "root") -> None:
    """A new home, made from nothing but one domain, restores byte for byte."""
    cli = Cli(folder) if user == "root" else CliAs(folder, user)
    folder.mkdir()
    shutil.chown(folder, user)
    cli("vault", "pull", source, *words)
    cli("vault", "restore", "data", folder / "out")
    assert tree(folder / "out") == expected


@pytest.fixture
def two_domains(owner, kept, server, place):  # noqa: F811
    """(owner, url, the follower's home): everything stored, backed up and followed."""
    data = make_data(owner.folder / "data")
    make_bucket(server, locks=True)
    owner.environment |= CREDENTIALS
    configure(
        owner, f'[copies.far]\nplace = "s3://{BUCKET}/team"\nendpoint = "{server}"\nlock_days = 30\ndomain = "far"\n'
    )
    owner("vault", "snapshot", data)
    owner("vault", "backup")
    other = CliAs(place / "other", OTHER)
    other.folder.mkdir()
    shutil.chown(other.folder, OTHER)
    other("vault", "pull", owner.home)
    return owner, server, other


def destroy(user: str, *folders: Path) -> None:
    for folder in folders:
        run_as(user, "chmod", "-R", "u+rwX", folder, code=None)
        run_as(user, "rm", "-rf", folder, code=None)


def test_one_person_with_all_rights_of_the_first_domain(two_domains, kept, place):  # noqa: F811
    """The owner's user, and then root of that machine, with the credential of its backups, in one go."""
    owner, url, other = two_domains  # noqa: F811
    expected = tree(owner.folder / "data")
    destroy(OWNER, owner.home, kept.folder, other.home)
    gone, stayed = steal(url)
    assert gone == 0 and stayed > 3
    hidden = Cli(place)("vault", "pull", f"s3://{BUCKET}/team", "--endpoint", url, "--home", place / "blind", code=1)
    assert "--uncover" in hidden.err
    comes_back(f"s3://{BUCKET}/team", place / "from-bucket", expected, "--endpoint", url, "--uncover")
    comes_back(str(kept.folder), place / "from-custodian", expected)
    kept.stop()
    destroy("root", owner.home, kept.folder)  # root of the first machine; the second domain is the other's
    comes_back(f"s3://{BUCKET}/team", place / "from-bucket-again", expected, "--endpoint", url)
    comes_back(str(other.home), place / "from-follower", expected)


def test_one_person_of_the_second_domain(two_domains, kept, place):  # noqa: F811
    owner, _, other = two_domains  # noqa: F811
    expected = tree(owner.folder / "data")
    destroy(OTHER, other.home, owner.home, kept.folder)
    assert not other.home.exists()
    comes_back(str(owner.home), place / "again", expected)


def test_a_program_that_asks_for_everything(two_domains, kept, place):  # noqa: F811
    """A bug, or an agent, that believes that nothing is needed any more, and has the owner's rights."""
    owner, _, _ = two_domains  # noqa: F811
    expected = tree(owner.folder / "data")
    code = (
        "import sys; from pathlib import Path; from stillhouse.errors import CustodianRefused\n"
        "from stillhouse.vault.custodian import CustodianBackend\n"
        "where = Path(sys.argv[1]); store = CustodianBackend(where / 'objects', where / 'socket')\n"
        "for key in list(store.list()):\n"
        "    for act in (store.discard, store.reclaim):\n"
        "        try: act(key)\n"
        "        except CustodianRefused: print('refused')\n"
    )
    ran = subprocess.run(
        [*owner.command()[:-2], "-c", code, kept.folder], capture_output=True, text=True, check=True, cwd="/"
    )
    assert ran.stdout.count("refused") >= 3
    shutil.rmtree(owner.home)
    comes_back(str(kept.folder), place / "again", expected)


def test_one_signature_is_not_enough(two_domains, kept):  # noqa: F811
    owner, _, _ = two_domains  # noqa: F811

    def act(who: str, *words: object, code: int = 0):
        return owner(*words, code=code, STILLHOUSE_KEYS=str(owner.folder / f"keys-{who}"))

    act("ada", "identity", "enrol", "ada", "--role", "governance", "--role", "custodian")
    act("bob", "identity", "request", "bob", "--to", owner.folder / "bob.json")
    act("ada", "identity", "enrol", "bob", "--role", "approver", "--request", owner.folder / "bob.json")
    asked = act(
        "ada", "delete", "plan", "snapshot:" + owner("vault", "list", "--json").json[0]["snapshot"], "--json"
    ).json
    act("ada", "plan", "approve", asked["plan"], code=3)
    act("ada", "plan", "execute", asked["plan"], code=3)
    owner("vault", "verify")
    # And with two it goes to the trash, for a month, whoever says that the month is over.
    act("bob", "plan", "approve", asked["plan"])
    act("ada", "plan", "execute", asked["plan"])
    owner("vault", "gc")
    assert len(list((kept.folder / "objects" / "trash").rglob("blake3-*"))) >= 3
    act("ada", "delete", "undo", asked["plan"][7:19])
    owner("vault", "restore", "data", owner.folder / "out")


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 6))])
def test_a_crash_at_any_moment(two_domains, kept, place, seed):  # noqa: F811
    """Commands of the owner and the custodian itself are killed at random; afterwards all is there, here and in each copy."""
    owner, url, other = two_domains  # noqa: F811
    expected = tree(owner.folder / "data")
    draw = random.Random(seed)
    (owner.folder / "data" / "more.jsonl").write_text("".join(f'{{"more": {n}}}\n' for n in range(9000)))
    for words in (
        ("vault", "snapshot", owner.folder / "data", "--name", "more"),
        ("vault", "backup"),
        ("vault", "gc"),
        ("tick",),
    ):
        process = owner.start(*words)
        time.sleep(draw.uniform(0.2, 1.2))
        victim = draw.choice([process, kept.process])
        victim.kill()
        process.communicate()
        if victim is kept.process:
            kept.kill()
            kept.start()
    owner("vault", "snapshot", owner.folder / "data", "--name", "more")
    owner("vault", "backup")
    other("vault", "pull", owner.home)
    owner("vault", "verify")
    for number, (source, more) in enumerate(
        [(f"s3://{BUCKET}/team", ("--endpoint", url)), (str(kept.folder), ()), (str(other.home), ())]
    ):
        comes_back(source, place / f"from-{number}", expected, *more)


def test_elsewhere_it_is_said_what_is_not_resisted(home, server):
    """One domain, or a bucket that locks nothing: the same attack works, and the probe has said so before."""
    data = make_data(home.folder / "data")
    make_bucket(server, locks=False)
    home.environment |= CREDENTIALS
    configure(home, f'[copies.far]\nplace = "s3://{BUCKET}/team"\nendpoint = "{server}"\n')
    home("vault", "snapshot", data)
    home("vault", "backup")
    said = home("status").out
    assert "the copies have the administrator of this home" in said and "ADVISORY" in said
    lines = {
        (line["where"].partition(":")[0], line["attacker"]): line
        for line in home("vault", "probe", "--json").json["copies"]
    }
    assert "removal of versions" in lines["far", "thief of this credential"]["does_not_resist"]
    assert "delete" in lines[str(home.home), "owner"]["does_not_resist"]
    gone, stayed = steal(server)
    assert gone > 3 and stayed == 0
    shutil.rmtree(home.home)
    assert os.listdir(home.folder) == ["data"]
