"""Plots as SVG, drawn here and now: altair with vl-convert, no network and no script in the page."""

from collections.abc import Collection, Sequence
from typing import Any

from stillhouse.nouns import Evaluation, FunnelStep
from stillhouse.runs.report.report_value import Family, ReportEdge, Training

_INK, _PAPER, _ACCENT, _PALE = "#1f2328", "#ffffff", "#8a5a2b", "#d9c3a5"
_RED, _RED_PAPER = "#a3261f", "#fbe9e7"
_WIDTH = 620


def funnel_svg(funnel: Sequence[FunnelStep]) -> str:
    """Bars of what was left after each step."""
    import altair

    rows = [{"step": step.step, "kept": step.kept} for step in funnel]
    base = _chart(rows).encode(y=altair.Y("step:N", sort=None, title=None), x=altair.X("kept:Q", title="records left"))
    return _svg(
        base.mark_bar(color=_ACCENT) + base.mark_text(align="left", dx=4, color=_INK).encode(text="kept:Q"),
        30 * len(rows),
    )


def families_svg(families: Sequence[Family]) -> str:
    """Pass rate of each family with its interval."""
    import altair

    rows: list[dict[str, Any]] = [
        {"family": family.name, "rate": family.passed / family.answers, "low": family.low, "high": family.high}
        for family in families
        if family.answers
    ]
    rows.sort(key=lambda row: -row["rate"])
    base = _chart(rows).encode(y=altair.Y("family:N", sort=None, title=None))
    scale = altair.Scale(domain=[0, 1])
    axis = altair.Axis(format="%")
    bars = base.mark_bar(color=_PALE).encode(x=altair.X("rate:Q", title="answers that passed", scale=scale, axis=axis))
    rules = base.mark_rule(color=_ACCENT, strokeWidth=2).encode(x="low:Q", x2="high:Q")
    return _svg(bars + rules, 18 * len(rows))


def stages_svg(stages: dict[str, float]) -> str:
    """Seconds of each stage."""
    import altair

    rows = [{"stage": stage, "seconds": round(seconds, 1)} for stage, seconds in stages.items()]
    base = _chart(rows).encode(y=altair.Y("stage:N", sort=None, title=None), x=altair.X("seconds:Q", title="seconds"))
    return _svg(
        base.mark_bar(color=_PALE) + base.mark_text(align="left", dx=4, color=_INK).encode(text="seconds:Q"),
        24 * len(rows),
    )


def losses_svg(trainings: Sequence[Training]) -> str:
    """Loss of each training by step."""
    import altair

    rows = [
        {"model": training.model, "step": step, "loss": loss}
        for training in trainings
        for step, loss in enumerate(training.losses, start=1)
    ]
    chart = (
        _chart(rows)
        .mark_line(strokeWidth=2)
        .encode(
            x=altair.X("step:Q", title="step", axis=altair.Axis(format="d")),
            y=altair.Y("loss:Q", title="loss (nats a token)", scale=altair.Scale(zero=False)),
            color=altair.Color("model:N", title=None, scale=altair.Scale(range=[_ACCENT, "#8a9ba8", _INK])),
        )
    )
    return _svg(chart, 180)


def evaluation_svg(evaluation: Evaluation, measure: str) -> str:
    """Each arm's mean of a measure, with its interval."""
    import altair

    rows = [
        {"arm": arm, "mean": found[measure].mean, "low": found[measure].low, "high": found[measure].high}
        for arm, found in evaluation.arms.items()
    ]
    order = [arm for arm in ("before", "unverified", "after") if arm in evaluation.arms]
    axis = altair.Axis(format="") if measure == "loss" else altair.Axis(format="%")
    base = _chart(rows).encode(y=altair.Y("arm:N", sort=order or None, title=None))
    bars = base.mark_bar(color=_PALE).encode(x=altair.X("mean:Q", title=measure, axis=axis))
    rules = base.mark_rule(color=_ACCENT, strokeWidth=3).encode(x="low:Q", x2="high:Q")
    return _svg(bars + rules, 30 * len(rows))


def _chart(rows: list[dict[str, Any]]) -> Any:
    import altair

    return altair.Chart(altair.InlineData(values=rows))


def _svg(chart: Any, height: int) -> str:
    import vl_convert

    specification = (
        chart.properties(width=_WIDTH, height=height)
        .configure_view(stroke=None)
        .configure_axis(grid=False, labelFontSize=12, titleFontSize=12, labelLimit=240)
        .configure(background=_PAPER, font="sans-serif")
        .to_dict()
    )
    return str(vl_convert.vegalite_to_svg(specification))


_BOX_WIDTH, _BOX_HEIGHT, _GAP_X, _GAP_Y = 220, 44, 70, 16


def lineage_svg(edges: Sequence[ReportEdge], touched: Collection[str] = ()) -> str:
    """Boxes in columns by distance from the sources, arrows from what was used to what was made; red what is ``touched``."""
    from html import escape

    depth: dict[str, int] = {}
    for _ in range(len(edges) + 1):
        for edge in edges:
            depth[edge.parent] = depth.get(edge.parent, 0)
            depth[edge.child] = max(depth.get(edge.child, 0), depth[edge.parent] + 1)
    columns: dict[int, list[str]] = {}
    for node in sorted(depth):
        columns.setdefault(depth[node], []).append(node)
    place = {
        node: (column * (_BOX_WIDTH + _GAP_X), row * (_BOX_HEIGHT + _GAP_Y))
        for column, nodes in columns.items()
        for row, node in enumerate(nodes)
    }
    width = len(columns) * (_BOX_WIDTH + _GAP_X) - _GAP_X
    height = max((len(nodes) for nodes in columns.values()), default=0) * (_BOX_HEIGHT + _GAP_Y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 -2 {width + 4} {height + 4}" width="{width}" role="img" '
        'font-family="sans-serif">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{_ACCENT}"/></marker></defs>',
    ]
    for edge in edges:
        (x1, y1), (x2, y2) = place[edge.parent], place[edge.child]
        start, middle = (x1 + _BOX_WIDTH, y1 + _BOX_HEIGHT / 2), _BOX_HEIGHT / 2
        parts.append(
            f'<line x1="{start[0]}" y1="{start[1]}" x2="{x2 - 2}" y2="{y2 + middle}" stroke="{_ACCENT}" '
            f'marker-end="url(#arrow)"/><text x="{(start[0] + x2) / 2}" y="{(start[1] + y2 + middle) / 2 - 6}" '
            f'font-size="10" text-anchor="middle" fill="{_INK}">{escape(edge.kind)}</text>'
        )
    for node, (x, y) in place.items():
        kind, _, name = node.partition(":")
        fill, stroke = (_RED_PAPER, _RED) if node in touched else (_PAPER, _INK)
        parts.append(
            f'<rect x="{x}" y="{y}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="5" fill="{fill}" stroke="{stroke}"/>'
            f'<text x="{x + 10}" y="{y + 17}" font-size="10" fill="{_ACCENT}">{escape(kind)}</text>'
            f'<text x="{x + 10}" y="{y + 34}" font-size="13" fill="{_INK}">{escape(name[:30])}</text>'
        )
    return "".join([*parts, "</svg>"])
