"""teacher list, add, sign, probe."""

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from stillhouse.cli.identity import show_outcome
from stillhouse.cli.options import HomeFolder, Json, opened
from stillhouse.cli.output import emit, note, table
from stillhouse.nouns import Channel, Teacher, TeacherKind

if TYPE_CHECKING:
    from stillhouse.home.open_home import Home

commands = typer.Typer(help="Teachers: models whose answers are recorded. Recipes name them.", no_args_is_help=True)


@commands.command("list")
def list_teachers(home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """All registered teachers."""
    from stillhouse.home.ledger import origin_queries

    with opened(home_folder) as home:
        found = origin_queries.teachers(home.ledger)
    rows = [[t.name, t.kind, t.model, t.lab, t.channel, ", ".join(t.terms), _price(t)] for t in found]
    emit(found, as_json, table(["name", "kind", "model", "lab", "channel", "terms", "USD per million in/out"], rows))


@commands.command()
def add(
    name: Annotated[str, typer.Argument(help="The name by which recipes use it.")],
    kind: Annotated[TeacherKind, typer.Option(help="The kind of API, or local.")],
    model: Annotated[str, typer.Option(help="The model's name, as the server knows it.")],
    lab: Annotated[str, typer.Option(help="Who made the model.")],
    channel: Annotated[Channel, typer.Option(help="The access channel.")],
    terms: Annotated[list[str], typer.Option(help="service/document@date or licence/id; repeat for several.")],
    base_url: Annotated[str, typer.Option(help="The server's address; the provider's own if not given.")] = "",
    key_env: Annotated[str, typer.Option(help="The environment variable that holds its key.")] = "",
    weights: Annotated[str, typer.Option(help="A model folder or .gguf file (local), or a recording (replay).")] = "",
    price_in: Annotated[str, typer.Option(help="USD per million prompt tokens.")] = "",
    price_out: Annotated[str, typer.Option(help="USD per million answer tokens.")] = "",
    hidden_tokens: Annotated[
        int, typer.Option(help="The most tokens an answer is billed for beyond max_tokens (hidden thinking).", min=0)
    ] = 0,
    batch_share: Annotated[
        str, typer.Option(help="The part of its prices that calls in a batch cost, such as 0.5; all where not given.")
    ] = "",
    limit_field: Annotated[
        str,
        typer.Option(help="What its server calls the most tokens of an answer: max_tokens or max_completion_tokens."),
    ] = "",
    rejects: Annotated[
        list[str] | None,
        typer.Option(help="An optional field that its server refuses: temperature or seed; repeat for both."),
    ] = None,
    unmetered: Annotated[bool, typer.Option("--unmetered", help="Calls cost nothing.")] = False,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Register a teacher: what is declared must agree with what is known of its host or weights. Where there is a roster, whoever
    answers for permission signs it.
    """
    from stillhouse.permission.known_origins import borrowed_name
    from stillhouse.teachers.register import (
        check_not_revoked,
        check_teacher,
        must_be_signed,
        propose_teacher,
        unknown_terms,
        write_down,
    )

    declared = Teacher(
        name=name,
        kind=kind,
        model=model,
        lab=lab,
        channel=channel,
        terms=tuple(terms),
        base_url=base_url,
        key_env=key_env,
        weights=weights,
        price_in="" if unmetered else price_in,
        price_out="" if unmetered else price_out,
        hidden_tokens=hidden_tokens,
        batch_share=batch_share,
        limit_field=limit_field,
        rejects=tuple(sorted(set(rejects or ()))),
    )
    with opened(home_folder) as home:
        if not (unmetered or price_in or price_out):
            declared = _priced(home, declared)
        check_not_revoked(home.recorder, home.policy, declared)
        checked = check_teacher(home.ledger, declared, unmetered=unmetered)
        proposed = propose_teacher(home, checked.teacher) if must_be_signed(home, checked) else None
        if proposed is None:
            write_down(home, checked)
            home.marker.mark()
        registered = checked.teacher
    for unknown in unknown_terms(registered, home.policy.registry):
        note(
            f"The registry does not know {unknown}: unknown means no, for every use but storing. `stillhouse terms list`"
        )
    if borrowed := borrowed_name(registered):
        note(f"CHECK: {borrowed}.")
    if proposed is not None and not proposed.done:
        show_outcome(proposed, as_json)
        return
    emit(registered, as_json, f"registered {registered.name} ({registered.grade})")


def _priced(home: "Home", declared: Teacher) -> Teacher:
    """A teacher with the price that is known of its model, if any."""
    from stillhouse.access.policy_adoption import own_prices
    from stillhouse.home.plans.prices import price_of

    price = price_of(declared.lab, declared.model, home.today, own_prices(home))
    if price is None:
        return declared
    note(f"Priced as {price.id}, {price.confidence}: {price.source}")
    return msgspec.structs.replace(
        declared,
        price_in=price.price_in,
        price_out=price.price_out,
        prices_of=price.id,
        batch_share=declared.batch_share or price.batch_share,
    )


@commands.command()
def sign(
    name: Annotated[str, typer.Argument(help="A draft: a registration, or a derived model, that nobody signed.")],
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Sign a registration that is a draft: that of a model that was made elsewhere, or one that somebody wrote down alone. It is
    shown first, and needs a second person's approval where there is one.
    """
    from stillhouse.teachers.register import draft_named, propose_teacher

    with opened(home_folder) as home:
        draft = draft_named(home, name)
        done = propose_teacher(home, draft)
    if not as_json:
        emit(
            None,
            False,
            "\n".join(f"{field:14} {value}" for field, value in msgspec.to_builtins(draft).items() if value),
        )
    show_outcome(done, as_json)


@commands.command()
def probe(
    name: Annotated[str, typer.Argument(help="A registered teacher.")],
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Ask a teacher for one word: is it there, and which fields of a request does its server take? Those are written down.

    Costs what such a call costs; nothing is recorded as an answer.
    """
    from stillhouse.runs.probe_teacher import probe_teacher

    with opened(home_folder) as home:
        reply = probe_teacher(home, name)
    lines = [f"{name} answered in {reply['seconds']} s: {reply['text']!r} ({reply['finish']})"]
    lines += [f"Its server refuses {', '.join(reply['rejects'])}."] if reply["rejects"] else []
    lines += [f"The most tokens of an answer are called {reply['limit_field']}."] if reply["limit_field"] else []
    emit(reply, as_json, "\n".join(lines))


def _price(teacher: Teacher) -> str:
    return f"{teacher.price_in}/{teacher.price_out}" if teacher.price_in or teacher.price_out else "unmetered"
