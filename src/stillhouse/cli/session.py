"""session list, show, find, outcome."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from stillhouse.cli.options import HomeFolder, Json, opened
from stillhouse.cli.output import emit, note, table

if TYPE_CHECKING:
    from stillhouse.runs.gateway_sessions import ProjectSession

commands = typer.Typer(help="Sessions of agents, as the gateway recorded them.", no_args_is_help=True)
Project = Annotated[str, typer.Option("--project", help="Sessions of this project's keys alone.")]


@commands.command("list")
def list_sessions(project: Project = "", home_folder: HomeFolder = None, as_json: Json = False) -> None:
    """All sessions: their turns and calls, and which models answered."""
    from stillhouse.runs.gateway_sessions import find_sessions

    with opened(home_folder) as home:
        found = find_sessions(home, project)
    value = [_summary(one) for one in found.sessions]
    if found.unanswered:
        note(f"{found.unanswered} calls brought no answer that can be read; what they asked is in their sessions.")
    for reason, count in found.left_out.items():
        note(f"{count} calls are in no session: {reason}")
    columns = ("session", "project", "turns", "calls", "lines", "outcome", "models")
    rows = [
        [
            ", ".join(one[name]) if name == "models" else len(one[name]) if name == "lines" else one[name]
            for name in columns
        ]
        for one in value
    ]
    emit(value, as_json, table(columns, rows))


def _summary(one: "ProjectSession") -> dict[str, Any]:
    lines = one.session.lines
    return {
        "session": one.session.id,
        "project": one.project,
        "turns": len(lines[0].conversation.turns),
        "calls": len({call for line in lines for call in line.calls}),
        "outcome": one.outcome.verdict if one.outcome else "",
        "reward": one.outcome.reward if one.outcome else "",
        "models": sorted({turn.model for line in lines for turn in line.conversation.turns if turn.model}),
        "lines": {line.conversation.id: str(line.kind) for line in lines},
        "unmatched": sum(line.unmatched for line in lines),
    }


@commands.command()
def show(
    session: Annotated[str, typer.Argument(help="Its name, or how that begins.")],
    line: Annotated[str, typer.Option(help="A fork, a sub-agent or a side call; `list --json` names them.")] = "",
    html: Annotated[Path | None, typer.Option(help="Write it as a page into this file.", metavar="FILE.html")] = None,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """What was said in a session, like a chat."""
    from stillhouse.errors import UnknownName
    from stillhouse.runs.gateway_sessions import as_text, find_sessions, session_of
    from stillhouse.runs.report.session_page import session_page
    from stillhouse.vault.files import write_whole

    with opened(home_folder) as home:
        whole = session_of(find_sessions(home), session)
    found, ended = whole.session, whole.outcome
    wanted = next((one for one in found.lines if one.conversation.id == (line or found.id)), None)
    if wanted is None:
        raise UnknownName(f"{found.id} has no line {line!r}.", next_step="`stillhouse session list --json` names them.")
    outcome_of = (
        [ended.verdict, ended.reward and f"reward {ended.reward}", ended.why, f"said by {ended.by}"] if ended else []
    )
    if html is not None:
        ending = ", ".join(filter(None, outcome_of))
        write_whole(html, session_page(found.id, wanted.conversation, ending, wanted.unmatched).encode())
        emit({"file": str(html)}, as_json, f"written to {html}")
        return
    others = [[one.conversation.id, one.kind, len(one.conversation.turns)] for one in found.lines if one is not wanted]
    text = as_text(wanted.conversation)
    if outcome_of:
        text += "\n\noutcome: " + ", ".join(filter(None, outcome_of))
    if others:
        text += "\n\n" + table(["other lines", "what", "turns"], others)
    value = {
        "kind": wanted.kind,
        "calls": wanted.calls,
        "unmatched": wanted.unmatched,
        "conversation": wanted.conversation,
        "outcome": ended._asdict() if ended else None,
    }
    emit(value, as_json, text)


@commands.command()
def find(
    text: Annotated[str, typer.Argument(help="Words, in any case.")],
    project: Project = "",
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Where a text stands in sessions; system texts are not looked at."""
    from stillhouse.runs.gateway_sessions import find_sessions, matches

    with opened(home_folder) as home:
        found = list(matches(find_sessions(home, project), text))
    value = [{"session": one, "line": line, "turn": turn, "text": around} for one, line, turn, around in found]
    emit(value, as_json, table(["session", "line", "turn", "text"], found))


@commands.command()
def outcome(
    session: Annotated[str, typer.Argument(help="Its name, or how that begins; leave it out with --file.")] = "",
    verdict: Annotated[str, typer.Argument(metavar="[passed|failed]", help="How it ended.")] = "",
    reward: Annotated[float | None, typer.Option(help="A number, such as the share of tests that pass.")] = None,
    why: Annotated[str, typer.Option(help="Who or what says so, and why.")] = "",
    file: Annotated[Path | None, typer.Option(help="JSON lines with session, outcome, reward and why.")] = None,
    home_folder: HomeFolder = None,
    as_json: Json = False,
) -> None:
    """Say how sessions ended. What is said last counts; all of it stays in the log."""
    from stillhouse.errors import UsageError
    from stillhouse.runs.gateway_sessions import Judgement, find_sessions, judge, read_judgements, session_of

    if (
        (file is None) == (not session)
        or verdict not in ("", "passed", "failed")
        or not math.isfinite(reward or 0)
        or (session and not verdict and reward is None)
    ):
        raise UsageError(
            "Say of one session `passed`, `failed` or --reward, or name a --file.", next_step="`--help` has both forms."
        )
    with opened(home_folder) as home:
        if file is not None:
            judgements = read_judgements(file)
        else:
            name = session_of(find_sessions(home), session).session.id
            judgements = [Judgement(name, cast("Any", verdict), reward, why)]
        unknown = judge(home, judgements)
    for name in unknown:
        note(f"There is no session {name!r}: nothing was written of it.")
    written = len(judgements) - len(unknown)
    emit({"written": written, "unknown": unknown}, as_json, f"{written} outcomes written")
    if unknown:
        raise typer.Exit(1)
