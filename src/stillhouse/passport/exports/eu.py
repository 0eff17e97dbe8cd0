"""The public summary of training content that Art. 53(1)(d) of the EU AI Act asks of providers of general-purpose models.

Sections follow the AI Office's template of 24 July 2025 as far as it is known here; headings are in our words. What only the
provider knows is left open, and marked so. It is a draft for whoever answers for it, and no legal advice.
"""

from collections.abc import Mapping
from typing import Any

from stillhouse.permission.decide import OWN_TERMS

_PUBLIC = "2.1 Publicly available datasets"
_PRIVATE = "2.2 Private datasets of third parties"
_CRAWLED = "2.3 Content crawled from the web"
_USERS = "2.4 User data"
_SYNTHETIC = "2.5 Synthetic data"
_OTHER = "2.6 Other sources"
_SOURCES = (_PUBLIC, _PRIVATE, _CRAWLED, _USERS, _SYNTHETIC, _OTHER)
_SECTIONS = {
    "teacher": _SYNTHETIC,
    "own model": _SYNTHETIC,
    "licensed": _PUBLIC,
    "human": _PRIVATE,
    "web": _CRAWLED,
    "prompt seed": _PUBLIC,
}
_OPEN = "*to be completed by the provider*"


def to_summary(statement: Mapping[str, Any]) -> str:
    """A statement as Markdown."""
    predicate = statement["predicate"]
    model, dataset = predicate["model"], predicate["dataset"]
    origins = predicate["origins"]
    lines = [
        f"# Public summary of training content: {model['name']}, version {model['version']}",
        "",
        "## 1. General information",
        "",
        f"- Provider and contact: {_OPEN}",
        f"- Model: {model['name']}@{model['version']}, weights `{model['weights_digest']}`",
        f"- Depends on: {model['base']} (`{model['base_digest'] or 'not known'}`)",
        f"- Date of placing on the market: {_OPEN}; trained {model['made'][:10]}",
        f"- Modality: text and code; rows in the training data: {dataset['rows'] if dataset else 'none of its own'}",
        f"- Tokens that went through training: {model['tokens']}",
        f"- Latest day on which training data was acquired: {_latest(origins)}",
        "",
        "## 2. Sources of the training content",
        "",
        "This section is about the training that is recorded in the passport; what the base model learned from is for its own "
        "provider to say.",
        "",
    ]
    for heading in _SOURCES:
        found = [stamp for stamp in origins if section_of(stamp) == heading]
        told = _synthetic(predicate) if heading == _SYNTHETIC else [_source(stamp) for stamp in found]
        lines += [f"### {heading}", "", *(told or ["- none recorded"]), ""]
    lines += ["## 3. Processing", "", "### 3.1 Reservations of rights", ""]
    lines += [f"- {duty}" for duty in predicate["duties"]] or ["- no duty follows from the terms that were recorded"]
    lines += [
        f"- How reservations under Art. 4(3) of Directive (EU) 2019/790 were respected: {_OPEN}",
        "",
        "### 3.2 Removal of unwanted content",
        "",
    ]
    lines += [f"- {out['rows']} rows left out at `{out['step']}`: {out['why']}" for out in predicate["exclusions"]]
    lines += [] if predicate["exclusions"] else ["- nothing was left out"]
    lines += [
        "",
        "### 3.3 Other",
        "",
        f"- Permission was checked against revocations as of {predicate['revocation_checked_as_of']}.",
    ]
    lines += [f"- This model is concerned by: {touched}" for touched in predicate["revocations_that_touch_it"]]
    return "\n".join(lines) + "\n"


def section_of(stamp: Mapping[str, Any]) -> str:
    """The section that a stamp is told in. Own work, prompts included, is no dataset that anybody else could have."""
    terms = set(stamp["terms"])
    written_here = {"human": terms == {OWN_TERMS}, "prompt seed": terms <= {OWN_TERMS}}
    return _OTHER if written_here.get(stamp["origin"]) else _SECTIONS.get(stamp["origin"], _OTHER)


def _synthetic(predicate: Mapping[str, Any]) -> list[str]:
    """Which models' outputs were learned from, with their shares: from the log, not from memory."""
    rows: dict[tuple[str, str, str], int] = {}
    for group in predicate["rows_by_origins"]:
        for stamp in group["origins"]:
            if stamp["origin"] in ("teacher", "own model"):
                key = (stamp["lab"], stamp["model"], stamp["channel"])
                rows[key] = rows.get(key, 0) + group["rows"]
    total = predicate["dataset"]["rows"] if predicate["dataset"] else 0
    if not rows:
        return ["- no outputs of models are in the training rows"]
    table = ["| model | lab | reached by | rows | share of rows |", "|---|---|---|---|---|"]
    table += [
        f"| {model} | {lab} | {channel} | {count} | {count / total:.2%} |"
        for (lab, model, channel), count in sorted(rows.items(), key=lambda item: (-item[1], item[0]))
    ]
    terms = ", ".join(f"`{version['id']}`" for version in predicate["terms_versions"]) or "none recorded"
    return [*table, "", f"- Terms under which they were obtained: {terms}"]


def _source(stamp: Mapping[str, Any]) -> str:
    terms = ", ".join(stamp["terms"]) or "terms not recorded"
    return f"- {stamp['origin']}{' of ' + stamp['lab'] if stamp['lab'] else ''}: {terms}, {stamp['day'] or 'day not recorded'}"


def _latest(origins: list[Any]) -> str:
    return max((stamp["day"] for stamp in origins if stamp["day"]), default="not recorded")
