"""Hugging Face model and dataset cards: Markdown with a YAML head (huggingface.co/docs/hub/model-cards)."""

import json
from collections.abc import Mapping
from typing import Any

from stillhouse.passport.exports.licences import bases_of, licence_of, licences_of_bases
from stillhouse.permission.decide import OWN_TERMS

# The arm of an evaluation that is the model itself.
_AFTER = "after"


def to_model_card(statement: Mapping[str, Any]) -> str:
    """A statement as a model card."""
    predicate = statement["predicate"]
    model = predicate["model"]
    head = {
        **_licence(predicate),
        "base_model": [base["repository"] for base in bases_of(predicate) if base["repository"]],
        "tags": ["code", "distillation", "synthetic"],
        "pipeline_tag": "text-generation",
        "model-index": [_results(model["name"], predicate)] if predicate["evaluations"] else [],
    }
    lines = [
        *_head(head),
        f"# {model['name']}",
        "",
        f"Version {model['version']}, of {_made_of(predicate)}",
        "",
    ]
    if predicate["duties"]:
        lines += ["**Duties that come with it**", "", *(f"- {duty}" for duty in predicate["duties"]), ""]
    lines += ["## What it learned from", "", *_shares(predicate), ""]
    lines += ["## What may be done with it, as its signer decided", ""]
    lines += [
        f"- {decision['use']}: {'yes' if decision['allowed'] else 'no'} ({decision['reason']})"
        for decision in predicate["decisions"]
    ]
    lines += [f"- revocations were checked as of {predicate['revocation_checked_as_of']}"]
    lines += [f"- **concerned by a revocation**: {touched}" for touched in predicate["revocations_that_touch_it"]]
    lines += ["", "## Evaluation", ""]
    for evaluation in predicate["evaluations"]:
        lines += [f"{evaluation['suite']}: {evaluation['tasks']} tasks, {evaluation['samples']} answers each", ""]
        lines += ["| | measure | mean | 95 % |", "|---|---|---|---|"]
        lines += [
            f"| {arm} | {measure} | {one['mean']:.3f} | {one['low']:.3f} to {one['high']:.3f} |"
            for arm, measures in evaluation["arms"].items()
            for measure, one in measures.items()
        ]
        lines.append("")
    lines += [] if predicate["evaluations"] else ["none was made", ""]
    compute = predicate["compute"]
    lines += ["## Training", "", f"- {compute['steps']} steps, {compute['tokens']} tokens, {compute['hours']} hours"]
    lines += ["", "## Limits", "", *(f"- {limit}" for limit in predicate["limits"])]
    return "\n".join(lines) + "\n"


def _licence(predicate: Mapping[str, Any]) -> dict[str, Any]:
    """What the bases are under is what a model made of them can be under at most."""
    found = licences_of_bases(predicate)
    if len(found) == 1 and found[0].hub:
        return {"license": found[0].hub}
    return {"license": "other", "license_name": ", ".join(one.name for one in found) or "not recorded"}


def _made_of(predicate: Mapping[str, Any]) -> str:
    return ", ".join(base["repository"] or base["model"] for base in bases_of(predicate))


def _results(name: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Its own figures, as the hub's model-index has them: what it was compared with stays in the text."""
    results = []
    for evaluation in predicate["evaluations"]:
        own = {arm: measures for arm, measures in evaluation["arms"].items() if arm == _AFTER} or evaluation["arms"]
        suite = f"{evaluation['suite']} {evaluation['split']}".strip()
        results += [
            {
                "task": {"type": "text-generation"},
                "dataset": {"name": suite, "type": evaluation["suite"]},
                "metrics": [
                    {
                        "type": measure,
                        "value": one["mean"],
                        "name": f"{measure} ({one['low']:.3f} to {one['high']:.3f})",
                    }
                    for measure, one in measures.items()
                ],
            }
            for measures in own.values()
        ]
    return {"name": name, "results": results}


def to_dataset_card(statement: Mapping[str, Any]) -> str:
    """A statement as the card of the dataset that the model learned from."""
    predicate = statement["predicate"]
    dataset = predicate["dataset"]
    size = dataset["rows"]
    category = next((name for most, name in _SIZES if size < most), "1M<n<10M")
    stamps = [stamp for group in predicate["rows_by_origins"] for stamp in group["origins"]]
    terms = sorted({terms for stamp in stamps for terms in stamp["terms"]} - {OWN_TERMS})
    known = licence_of(terms[0]).hub if len(terms) == 1 else ""
    names = ", ".join(licence_of(one).name for one in terms) or "not recorded"
    head = {
        **({"license": known} if known else {"license": "other", "license_name": names}),
        "tags": ["synthetic", "code"],
        "task_categories": ["text-generation"],
        "size_categories": [category],
    }
    lines = [*_head(head), f"# {dataset['label']}", "", f"{size} rows, `{dataset['content_digest']}`", ""]
    lines += ["## Where the answers are from", "", *_shares(predicate), "", "## What was left out, and why", ""]
    lines += [f"- {out['step']}: {out['rows']} rows, {out['why']}" for out in predicate["exclusions"]] or ["- nothing"]
    lines += ["", "## Terms", ""]
    lines += [f"- `{version['id']}`: {version['verdict']}" for version in predicate["terms_versions"]]
    return "\n".join(lines) + "\n"


_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def _head(values: Mapping[str, Any]) -> list[str]:
    """YAML of values that are written as JSON, which is YAML, too; an empty list is left out."""
    lines = ["---"]
    for name, value in values.items():
        if isinstance(value, list):
            lines += [f"{name}:", *(f"- {json.dumps(item, ensure_ascii=False)}" for item in value)] if value else []
        else:
            lines.append(f"{name}: {json.dumps(value, ensure_ascii=False)}")
    return [*lines, "---", ""]


def _shares(predicate: Mapping[str, Any]) -> list[str]:
    if not predicate["shares"]:
        return ["no rows of its own: it was made of other models"]
    rows = ["| lab | how well known | rows | share of rows | share of tokens |", "|---|---|---|---|---|"]
    for share in predicate["shares"]:
        tokens = "not counted" if share["token_share"] is None else f"{share['token_share']:.2%}"
        rows.append(f"| {share['lab']} | {share['grade']} | {share['rows']} | {share['row_share']:.2%} | {tokens} |")
    return rows
