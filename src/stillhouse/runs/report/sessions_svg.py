"""Sessions as a picture: a line for each, a mark for each turn."""

from collections.abc import Sequence
from typing import NamedTuple

import altair
import polars as pl
import vl_convert

from stillhouse.conversations.record import Call, Conversation, Role, Turn

# What is learned is dark, what was given is light.
_COLOURS = {"asked": "#b9b4ad", "calls a tool": "#2f6f4f", "result": "#e6e1da", "answers": "#c46a3a"}


class DrawnSession(NamedTuple):
    """A session by the name that it has in the picture."""

    name: str
    conversation: Conversation


def sessions_svg(sessions: Sequence[DrawnSession]) -> str:
    """A line for each session, in order; "" where there are none."""
    rows = [
        {"session": one.name, "turn": place, "what": _what(turn)}
        for one in sessions
        for place, turn in enumerate(one.conversation.turns, start=1)
    ]
    if not rows:
        return ""
    colours = altair.Scale(domain=list(_COLOURS), range=list(_COLOURS.values()))
    turns = altair.Scale(domain=[0.5, max(len(one.conversation.turns) for one in sessions) + 0.5], nice=False)
    chart = (
        altair.Chart(pl.DataFrame(rows))
        .properties(width=560, height={"step": 22})
        .mark_square(size=190, opacity=1)
        .encode(
            x=altair.X("turn:Q", title="turn", axis=altair.Axis(tickMinStep=1, grid=False), scale=turns),
            y=altair.Y("session:N", title=None, sort=None),
            color=altair.Color("what:N", title=None, scale=colours, legend=altair.Legend(orient="bottom")),
        )
    )
    return str(vl_convert.vegalite_to_svg(chart.to_json()))


def _what(turn: Turn) -> str:
    if turn.role is Role.TOOL:
        return "result"
    if turn.role is not Role.ASSISTANT:
        return "asked"
    return "calls a tool" if any(isinstance(part, Call) for part in turn.parts) else "answers"
