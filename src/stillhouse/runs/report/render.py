"""A report as HTML (one file, nothing loaded from anywhere), Markdown and JSON."""

from importlib import resources
from pathlib import Path

import jinja2
import msgspec

from stillhouse.nouns import Estimate
from stillhouse.runs.report import plots
from stillhouse.runs.report.report_value import RunReport
from stillhouse.vault.files import write_whole


def render_html(report: RunReport) -> str:
    """One self-contained page. Every text from outside is escaped by the template engine."""
    return template("report.html").render(
        report=report,
        funnel_svg=plots.funnel_svg(report.funnel),
        families_svg=plots.families_svg(report.families) if report.families else "",
        stages_svg=plots.stages_svg(report.stages),
        lineage_svg=plots.lineage_svg(report.lineage),
        losses_svg=plots.losses_svg(report.trainings) if report.trainings else "",
        evaluation_svgs=[
            plots.evaluation_svg(found, next(iter(next(iter(found.arms.values()))))) for found in report.evaluations
        ],
    )


def render_markdown(report: RunReport) -> str:
    """The same as text."""
    return template("report.md").render(report=report)


def write_report(report: RunReport, folder: Path) -> Path:
    """Write all three forms into a folder; returns the page's path. Raises StorageError."""
    write_whole(folder / "report.json", msgspec.json.format(msgspec.json.encode(report), indent=2))
    write_whole(folder / "report.md", render_markdown(report).encode())
    page = folder / "report.html"
    write_whole(page, render_html(report).encode())
    return page


def template(name: str) -> jinja2.Template:
    """A page that ships beside this file. HTML escapes every text; an unknown name is an error."""
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=name.endswith(".html"), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["estimate"] = _estimate
    environment.filters["difference"] = lambda estimate, measure: _estimate(estimate, measure).replace("%", "points")
    environment.filters["percent"] = lambda part, whole: f"{100 * part / whole:.0f} %" if whole else "-"
    return environment.from_string(text)


def _estimate(estimate: Estimate, measure: str) -> str:
    """A mean with its interval, as its measure is usually written."""
    if measure == "loss":
        return f"{estimate.mean:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
    return f"{100 * estimate.mean:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f} %)"
