"""gateway serve, status, key add, key list, key revoke."""

import os
from typing import Annotated

import typer

from stillhouse.cli.options import HomeFolder, Json, Safety, opened
from stillhouse.cli.output import emit, note, table
from stillhouse.nouns import Use

commands = typer.Typer(help="The recording gateway: any tool, by changing its base URL.", no_args_is_help=True)
keys = typer.Typer(help="Keys of the gateway's clients.", no_args_is_help=True)
commands.add_typer(keys, name="key")


@commands.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="For clients; 0: any free one.", min=0, max=65535)] = 8400,
    ops_port: Annotated[int, typer.Option(help="For /healthz, /readyz and /metrics.", min=0, max=65535)] = 8401,
    workers: Annotated[int, typer.Option(help="Processes; 0: one per core.", min=0)] = 0,
    stall_seconds: Annotated[
        float, typer.Option(help="Abort a call after so many seconds without data.", min=1)
    ] = 300.0,
    home_folder: HomeFolder = None,
    as_json: Json = False,
    durability: Safety = None,
) -> None:
    """Serve until Ctrl-C or SIGTERM; then finish the calls in flight, and end."""
    from stillhouse.teachers.gateway.serve import GatewayAddress, serve_gateway, upstreams, without_key

    with opened(home_folder, durability) as home:
        usable = upstreams(home)

        def on_ready(url: str, ops: str) -> None:
            value = {"url": url, "ops": ops, "teachers": sorted(usable)}
            emit(
                value,
                as_json,
                f"clients: {url}/v1   health and metrics: {ops}   teachers: {', '.join(value['teachers'])}",
            )

        for name, variable in without_key(home).items():
            note(f"{name} is left out: the variable {variable} with its key is not set.")
        if not usable:
            note("No teacher can be asked over HTTP yet: register one with `stillhouse teacher add`, and set its key.")
        count = workers or len(os.sched_getaffinity(0))
        serve_gateway(home, GatewayAddress(host, port, ops_port), count, stall_seconds, on_ready)


@commands.command(hidden=True)
def worker(
    listening: Annotated[int, typer.Option()],
    counters: Annotated[int, typer.Option()],
    row: Annotated[int, typer.Option()],
    stall_seconds: Annotated[float, typer.Option()],
    home_folder: HomeFolder = None,
    durability: Safety = None,
) -> None:
    """One worker; started by `serve`."""
    from stillhouse.teachers.gateway.serve import run_worker

    with opened(home_folder, durability) as home:
        run_worker(home, listening, counters, row, stall_seconds)


@commands.command()
def status(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """Calls that came through, by how they ended, and the keys in force."""
    from stillhouse.home.ledger import gateway_queries

    with opened(home_folder) as home:
        calls = gateway_queries.calls_by_outcome(home.ledger)
        in_force = sum(not revoked for revoked in gateway_queries.gateway_keys(home.ledger).values())
    text = table(["calls", "how they ended"], [[count, outcome] for outcome, count in calls.items()])
    emit({"calls": calls, "keys": in_force}, as_json, f"{text}\n{in_force} keys in force")


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="Who or what it is for.")],
    project: Annotated[str, typer.Option(help="The project that its calls belong to.")],
    use: Annotated[list[Use], typer.Option(help="What its calls may be for; the first is the default.")],
    teacher: Annotated[list[str] | None, typer.Option(help="A teacher that it may ask; repeat; none: all.")] = None,
    budget: Annotated[str, typer.Option(help="USD; without it, only unmetered teachers can be asked.")] = "",
    expires: Annotated[str, typer.Option(help="The last day on which it is valid (YYYY-MM-DD).")] = "",
    max_tokens: Annotated[
        int,
        typer.Option(
            help="The limit of an answer where a call to a metered teacher sets none; 0: such calls are refused.", min=0
        ),
    ] = 0,
    inputs: Annotated[
        list[str] | None,
        typer.Option(help="Terms that bind what its clients send: questions, system texts, results of tools; repeat."),
    ] = None,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Make a key. Its secret is shown once and stored nowhere."""
    from stillhouse.teachers.gateway.issue_key import issue_key

    with opened(home_folder) as home:
        key, secret = issue_key(
            home, name, project, tuple(use), tuple(teacher or ()), budget, expires, max_tokens, tuple(inputs or ())
        )
    value = {"id": key.id, "name": key.name, "secret": secret}
    emit(value, as_json, f"{secret}\nkey {key.id} for {name}: keep the line above, it is not shown again.")


@keys.command("list")
def list_keys(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """All keys, revoked ones too."""
    from stillhouse.home.ledger import gateway_queries

    with opened(home_folder) as home:
        found = gateway_queries.gateway_keys(home.ledger)
    rows = [
        [k.id, k.name, k.project, ", ".join(k.uses), ", ".join(k.teachers) or "all", k.budget or "-", k.expires, gone]
        for k, gone in found.items()
    ]
    value = [
        {"id": k.id, "name": k.name, "project": k.project, "uses": list(k.uses), "teachers": list(k.teachers),
         "budget": k.budget, "max_tokens": k.max_tokens, "expires": k.expires, "inputs": list(k.inputs), "revoked": gone}
        for k, gone in found.items()
    ]  # fmt: skip
    emit(value, as_json, table(["key", "name", "project", "uses", "teachers", "USD", "expires", "revoked"], rows))


@keys.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(help="Its id or its name.")],
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Revoke a key: effective from the next request, and the next piece of a stream, in every worker."""
    from stillhouse.teachers.gateway.keyring import revoke

    with opened(home_folder) as home:
        key = revoke(home.recorder, home.marker, name, reason)
    emit({"id": key.id, "name": key.name}, as_json, f"revoked {key.id} ({key.name})")
