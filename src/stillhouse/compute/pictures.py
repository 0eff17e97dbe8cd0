"""Pictures of compute as SVG: the states of pools, and what is forecast to stand idle."""

from typing import Any

import altair
import polars as pl
import vl_convert

from stillhouse.compute.accounting.states import State

# From what is used to what is not; greys are what nobody knows or could use.
COLOURS = {
    State.PRODUCTIVE: "#2f6f4f", State.UNPRODUCTIVE: "#c46a3a", State.INACTIVE: "#d9a441", State.UNALLOCATED: "#8fb4d9",
    State.DOWN: "#b9b4ad", State.UNKNOWN: "#e6e1da",
}  # fmt: skip
_WIDTH = 640


def states_svg(pools: list[dict[str, Any]]) -> str:
    """A bar for each pool: the share of its GPU-hours in each state."""
    rows = [
        {"pool": pool["pool"], "state": str(state), "hours": float(pool["states"][state]["gpu_hours"]), "order": place}
        for pool in pools
        for place, state in enumerate(COLOURS)
    ]
    if not rows:
        return ""
    chart = (
        _chart(rows).properties(width=_WIDTH, height={"step": 26})
        .mark_bar()
        .encode(
            x=altair.X("hours:Q", stack="normalize", title="share of GPU-hours", axis=altair.Axis(format="%")),
            y=altair.Y("pool:N", title=None, sort=None),
            color=altair.Color(
                "state:N", title=None, scale=altair.Scale(domain=[str(s) for s in COLOURS], range=list(COLOURS.values())),
                legend=altair.Legend(orient="bottom", columns=3),
            ),
            order="order:Q",
        )
    )  # fmt: skip
    return _svg(chart)


def idle_svg(history: pl.DataFrame, offers: list[dict[str, Any]]) -> str:
    """What stood idle (columns ``time`` in milliseconds, ``idle``), and what is offered for the hours ahead."""
    past = (
        _chart(history.to_dicts())
        .properties(width=_WIDTH, height=180)
        .mark_area(color="#8fb4d9", line={"color": "#4d7fb3"}, opacity=0.5, interpolate="step-after")
        .encode(x=altair.X("time:T", title=None), y=altair.Y("idle:Q", title="idle GPUs"))
    )
    bars = (
        _chart(offers)
        .mark_rect(color="#2f6f4f", opacity=0.45)
        .encode(x="start:T", x2="end:T", y="gpus:Q", y2=altair.datum(0))
    )
    return _svg(past + bars)


def _chart(rows: list[dict[str, Any]]) -> Any:
    return altair.Chart(altair.InlineData(values=rows))


def _svg(chart: Any) -> str:
    return str(vl_convert.vegalite_to_svg(chart.configure_view(stroke=None).to_json()))
