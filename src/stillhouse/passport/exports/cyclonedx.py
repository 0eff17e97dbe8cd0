"""CycloneDX 1.6 ML-BOM with a modelCard (cyclonedx.org/docs/1.6/json); a test holds it against cyclonedx-python-lib's schema."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from stillhouse.canon import digest_value
from stillhouse.passport.exports.licences import Licence, bases_of, licence_of, licences_of_bases

_LIMIT_HASHES = {"sha256": "SHA-256", "blake3": "BLAKE3"}


def to_cyclonedx(statement: Mapping[str, Any]) -> str:
    """A statement as a bill of materials: the model, its dataset, its teachers, its files."""
    predicate = statement["predicate"]
    model, dataset = predicate["model"], predicate["dataset"]
    label = f"{model['name']}@{model['version']}"
    files = [subject for subject in statement["subject"] if not subject["name"].startswith("dataset/")]
    data = [subject for subject in statement["subject"] if subject["name"].startswith("dataset/")]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, digest_value(predicate))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": predicate["made"],
            "tools": {"components": [{"type": "application", "name": "stillhouse"}]},
            "component": {
                "type": "machine-learning-model",
                "bom-ref": f"model:{label}",
                "name": model["name"],
                "version": str(model["version"]),
                "licenses": [_licence(one) for one in licences_of_bases(predicate)],
                "components": [_file(subject) for subject in files],
                "pedigree": {"ancestors": [_ancestor(base) for base in bases_of(predicate)]},
                "modelCard": _card(predicate, f"dataset:{dataset['label']}" if dataset else ""),
                "properties": _properties(predicate),
            },
        },
        "components": [
            *([_dataset(predicate, dataset, data)] if dataset else []),
            *[_teacher(stamp) for stamp in _teachers(predicate["origins"])],
        ],
        "dependencies": _dependencies(predicate, label),
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _file(subject: Mapping[str, Any]) -> dict[str, Any]:
    hashes = [{"alg": _LIMIT_HASHES[name], "content": value} for name, value in subject["digest"].items()]
    return {"type": "file", "bom-ref": f"file:{subject['name']}", "name": subject["name"], "hashes": hashes}


def _dataset(predicate: Mapping[str, Any], dataset: Mapping[str, Any], data: list[Any]) -> dict[str, Any]:
    name, _, version = dataset["label"].partition("@")
    contents = [
        {"name": f"{subject['name']} ({algorithm})", "value": digest}
        for subject in data
        for algorithm, digest in subject["digest"].items()
    ]
    contents += [{"name": "rows", "value": str(dataset["rows"])}]
    contents += [{"name": name, "value": dataset[name]} for name in ("content_digest", "manifest_digest")]
    contents += [
        {"name": f"share of {share['lab']} ({share['grade']})", "value": str(share["row_share"])}
        for share in predicate["shares"]
    ]
    kind = {"type": "dataset", "name": dataset["label"], "contents": {"properties": contents}}
    return {"type": "data", "bom-ref": f"dataset:{dataset['label']}", "name": name, "version": version, "data": [kind]}


def _teachers(origins: list[Any]) -> list[Any]:
    found = {(stamp["lab"], stamp["model"]): stamp for stamp in origins if stamp["model"]}
    return [found[key] for key in sorted(found)]


def _reference(stamp: Mapping[str, Any]) -> str:
    return f"teacher:{stamp['lab']}/{stamp['model']}"


def _teacher(stamp: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": _reference(stamp),
        "name": stamp["model"],
        "supplier": {"name": stamp["lab"] or "unknown"},
        "licenses": [_licence(licence_of(terms)) for terms in stamp["terms"]],
        "properties": [
            {"name": f"stillhouse:{name}", "value": str(stamp[name])}
            for name in ("origin", "channel", "day", "purpose", "grade")
            if stamp[name]
        ],
    }


def _ancestor(base: Mapping[str, Any]) -> dict[str, Any]:
    """A model whose weights this one was made of: it is not needed to run it, so it is no dependency."""
    return {
        "type": "machine-learning-model",
        "bom-ref": f"ancestor:{base['name']}",
        "name": base["repository"] or base["model"],
        **({"supplier": {"name": base["lab"]}} if base["lab"] else {}),
        **({"licenses": [_licence(licence_of(one)) for one in base["terms"]]} if base["terms"] else {}),
        **({"properties": [{"name": "stillhouse:digest", "value": base["digest"]}]} if base["digest"] else {}),
    }


def _licence(licence: Licence) -> dict[str, Any]:
    return {"license": {"id": licence.spdx} if licence.spdx else {"name": licence.name}}


def _dependencies(predicate: Mapping[str, Any], label: str) -> list[dict[str, Any]]:
    dataset = predicate["dataset"]
    teachers = [_reference(stamp) for stamp in _teachers(predicate["origins"])]
    if not dataset:
        return [{"ref": f"model:{label}", "dependsOn": teachers}]
    node = f"dataset:{dataset['label']}"
    return [{"ref": f"model:{label}", "dependsOn": [node]}, {"ref": node, "dependsOn": teachers}]


def _card(predicate: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    metrics = []
    for evaluation in predicate["evaluations"]:
        for arm, measures in evaluation["arms"].items():
            metrics += [
                {
                    "type": measure,
                    "value": str(estimate["mean"]),
                    "slice": f"{evaluation['suite']} {evaluation['split']}: {arm}".strip(),
                    "confidenceInterval": {"lowerBound": str(estimate["low"]), "upperBound": str(estimate["high"])},
                }
                for measure, estimate in measures.items()
            ]
    denied = [decision for decision in predicate["decisions"] if not decision["allowed"]]
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "code generation",
            "architectureFamily": "transformer",
            "datasets": [{"ref": dataset}] if dataset else [],
        },
        "quantitativeAnalysis": {"performanceMetrics": metrics},
        "considerations": {
            "technicalLimitations": list(predicate["limits"]),
            "useCases": [f"denied: {decision['use']} ({decision['reason']})"[:1000] for decision in denied],
        },
    }


def _properties(predicate: Mapping[str, Any]) -> list[dict[str, str]]:
    found = [{"name": "stillhouse:duty", "value": duty} for duty in predicate["duties"]]
    found += [
        {
            "name": "stillhouse:waiver",
            "value": f"{waiver['id']}: {waiver['use']} until {waiver['expires']}, {waiver['owner']}",
        }
        for waiver in predicate["waivers"]
    ]
    found += [{"name": "stillhouse:revocation", "value": touched} for touched in predicate["revocations_that_touch_it"]]
    found.append({"name": "stillhouse:revocations-as-of", "value": predicate["revocation_checked_as_of"]})
    found += [{"name": "stillhouse:terms", "value": version["id"]} for version in predicate["terms_versions"]]
    return found
