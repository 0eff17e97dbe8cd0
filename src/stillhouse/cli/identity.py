"""identity list, connect, request, enrol, rotate, drop."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillhouse.cli.options import HomeFolder, Json, opened
from stillhouse.cli.output import emit, note, table
from stillhouse.nouns import Role

if TYPE_CHECKING:
    from stillhouse.home.proposals import Proposed

commands = typer.Typer(help="Identity: people and programs, and whose signature means something.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="A person or a program.")]
RequestFile = Annotated[
    Path | None, typer.Option(help="Their request (`identity request`), where the key was made elsewhere.")
]


@commands.command("list")
def list_members(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """The roster in force, who you sign as, and which controls so few people cannot enforce."""
    from stillhouse.access.people import standing
    from stillhouse.permission.signing_keys import public_key

    with opened(home_folder) as home:
        found = standing(home)
    members = found.roster.members if found.roster else ()
    rows = [[known.name, ", ".join(known.roles), public_key(known.key).id] for known in members]
    value = {
        "version": found.roster.version if found.roster else 0,
        "threshold": found.roster.threshold if found.roster else 0,
        "recovery": bool(found.roster and found.roster.recovery),
        "members": [{"name": known.name, "roles": list(known.roles), "key": known.key} for known in members],
        "you_sign_as": found.signs_as,
        "advisory": list(found.advisory),
    }
    text = table(["name", "roles", "key"], rows)
    text += f"\nyou sign as {found.signs_as} ({found.key})"
    emit(value, as_json, text + "".join(f"\nADVISORY: {line}" for line in found.advisory))


@commands.command()
def connect(
    name: Name,
    address: Annotated[
        str, typer.Argument(help="hsm:2, awskms:..., gcpkms:..., azurekms:..., hv:..., as securesystemslib has them.")
    ],
    public_key: Annotated[Path, typer.Option(help="Its public key (PEM): Ed25519, or ECDSA on P-256.")],
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Use a key that is in hardware, a cloud's KMS or HashiCorp Vault as your own. It is tried, and its address is written."""
    from stillhouse.access.people import connect_key

    with opened(home_folder) as home:
        path = connect_key(home, name, address, public_key)
    emit({"key": str(path)}, as_json, f"{path} says where the key is; `stillhouse identity enrol` or `request` uses it")


@commands.command()
def request(
    name: Name,
    to: Annotated[Path, typer.Option(help="The file for the person who enrols you.")],
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Make a key of your own, outside the home, and a request to be enrolled with it. The private key stays with you."""
    from stillhouse.access.people import make_request

    with opened(home_folder) as home:
        path = make_request(home, name, to)
    emit({"request": str(path)}, as_json, f"give {path} to the person who enrols you")


@commands.command()
def enrol(
    name: Name,
    role: Annotated[list[Role], typer.Option(help="What they may do; repeat for several.")],
    threshold: Annotated[
        int, typer.Option(help="So many who answer for permission change the roster; 0: as before.")
    ] = 0,
    request: RequestFile = None,
    recovery: Annotated[
        Path | None, typer.Option(help="Write a recovery key to this file, to be kept off this machine.")
    ] = None,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Add a member. The first one makes the roster; later ones need a threshold of its members."""
    from stillhouse.access.people import enrol as enrol_member

    with opened(home_folder) as home:
        done = enrol_member(home, name, tuple(role), threshold, request, recovery)
    show_outcome(done, as_json)
    if recovery is not None:
        note(f"{recovery} can change the roster alone: keep it off this machine.")


@commands.command()
def rotate(
    name: Name,
    request: RequestFile = None,
    recovery: Annotated[
        Path | None, typer.Option(help="The recovery key, where too many keys are lost to reach the threshold.")
    ] = None,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Another key for a member. What the old one signed before stays signed; it signs nothing any more."""
    from stillhouse.access.people import rotate as rotate_key

    with opened(home_folder) as home:
        done = rotate_key(home, name, request, recovery)
    show_outcome(done, as_json)


@commands.command()
def drop(name: Name, home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Take a member off the roster."""
    from stillhouse.access.people import drop as drop_member

    with opened(home_folder) as home:
        done = drop_member(home, name)
    show_outcome(done, as_json)


def show_outcome(done: "Proposed", as_json: bool) -> None:
    """What came of something that needs signatures."""
    start = done.digest.partition(":")[2][:12]
    value = {"plan": done.digest, "done": done.done, "waits_for": list(done.waits_for)}
    text = f"done (plan {start})" if done.done else f"plan {start} waits for one of: {', '.join(done.waits_for)}"
    if not done.done and not done.waits_for:
        text = f"plan {start} has every approval: stillhouse plan execute {start}"
    emit(value, as_json, text)
    if done.waits_for:
        note(f"They approve it with: stillhouse plan approve {start}; then: stillhouse plan execute {start}")
