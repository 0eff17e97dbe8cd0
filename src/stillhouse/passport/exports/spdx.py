"""SPDX 3.0.1 with its AI and Dataset profiles, as JSON-LD (spdx.github.io/spdx-spec/v3.0.1). Read back by spdx-python-model."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from stillhouse.canon import digest_value
from stillhouse.passport.exports.licences import bases_of, licence_of, licences_of_bases

_CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
_INFO = "_:creation"
_DATASET = "dataset/"


def to_spdx(statement: Mapping[str, Any]) -> str:
    """A statement as a document: the model, its files, its dataset, and the models behind both, with how they are related."""
    predicate = statement["predicate"]
    graph = _Graph(f"urn:stillhouse:spdx:{digest_value(predicate).partition(':')[2]}")
    signer = graph.add(
        "Organization" if predicate["signed_by"] == "home" else "Person", "signer", name=predicate["signed_by"]
    )
    model = graph.add("ai_AIPackage", "model", **_model(predicate), suppliedBy=signer)
    files = [subject for subject in statement["subject"] if not subject["name"].startswith(_DATASET)]
    graph.relate(model, "contains", [_file(graph, subject) for subject in files])
    graph.relate(model, "hasDeclaredLicense", [_licence(graph, one.expression) for one in licences_of_bases(predicate)])
    bases = [
        _other(graph, f"base:{base['name']}", base["model"], base["lab"], base["terms"]) for base in bases_of(predicate)
    ]
    graph.relate(model, "descendantOf", bases)
    teachers = [
        _other(graph, f"teacher:{lab}/{name}", name, lab, terms)
        for (lab, name), terms in sorted(_teachers(predicate).items())
    ]
    if predicate["dataset"]:
        dataset = graph.add("dataset_DatasetPackage", "dataset", **_dataset(predicate), suppliedBy=signer)
        data = [subject for subject in statement["subject"] if subject["name"].startswith(_DATASET)]
        graph.relate(dataset, "contains", [_file(graph, subject) for subject in data])
        graph.relate(model, "trainedOn", [dataset])
        for teacher in teachers:
            graph.relate(teacher, "generates", [dataset])
    else:
        graph.relate(model, "descendantOf", teachers)
    return json.dumps(
        {"@context": _CONTEXT, "@graph": graph.finished(predicate, model, signer)}, indent=2, ensure_ascii=False
    )


class _Graph:
    """The elements of a document; each is there once, by its id."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._elements: dict[str, dict[str, Any]] = {}

    def add(self, kind: str, id: str, /, **fields: Any) -> str:
        id = f"{self._base}/{re.sub(r'[^A-Za-z0-9._:/@-]', '-', id)}"
        self._elements.setdefault(id, {"type": kind, "spdxId": id, "creationInfo": _INFO, **fields})
        return id

    def relate(self, source: str, how: str, targets: Sequence[str]) -> None:
        if targets:
            name = f"relationship/{len(self._elements)}"
            self.add("Relationship", name, **{"from": source, "relationshipType": how, "to": sorted(set(targets))})

    def finished(self, predicate: Mapping[str, Any], root: str, signer: str) -> list[dict[str, Any]]:
        created = _whole_seconds(predicate["made"])
        info = {"type": "CreationInfo", "@id": _INFO, "specVersion": "3.0.1", "created": created, "createdBy": [signer]}
        document = {
            "type": "SpdxDocument",
            "spdxId": f"{self._base}/document",
            "creationInfo": _INFO,
            "name": f"passport of {predicate['model']['name']}@{predicate['model']['version']}",
            "profileConformance": ["core", "software", "simpleLicensing", "ai", "dataset"],
            "rootElement": [root],
            "element": sorted(self._elements),
        }
        return [info, document, *self._elements.values()]


def _model(predicate: Mapping[str, Any]) -> dict[str, Any]:
    model, compute = predicate["model"], predicate["compute"]
    hyper = {name: value for name, value in model["method"].items() if isinstance(value, str | int | float)}
    metrics = {
        f"{evaluation['suite']} {arm} {measure}": f"{one['mean']:.4f} ({one['low']:.4f} to {one['high']:.4f})"
        for evaluation in predicate["evaluations"]
        for arm, measures in evaluation["arms"].items()
        for measure, one in measures.items()
    }
    denied = [f"not for {one['use']}: {one['reason']}" for one in predicate["decisions"] if not one["allowed"]]
    return {
        "name": model["name"],
        "software_packageVersion": str(model["version"]),
        "software_primaryPurpose": "model",
        "releaseTime": _whole_seconds(model["made"]),
        "software_downloadLocation": f"urn:stillhouse:weights:{model['weights_digest']}",
        "ai_typeOfModel": ["transformer, causal language model"],
        "ai_domain": ["code generation"],
        "ai_informationAboutTraining": f"{compute['steps']} steps over {compute['tokens']} tokens, {compute['hours']} hours",
        "ai_limitation": "\n".join(predicate["limits"]),
        "ai_hyperparameter": _entries(hyper),
        "ai_metric": _entries(metrics),
        "comment": "\n".join([*(f"duty: {duty}" for duty in predicate["duties"]), *denied]) or "no duties",
    }


def _dataset(predicate: Mapping[str, Any]) -> dict[str, Any]:
    dataset = predicate["dataset"]
    name, _, version = dataset["label"].partition("@")
    shares = [f"{one['lab']} ({one['grade']}): {one['rows']} rows" for one in predicate["shares"]]
    return {
        "name": name,
        "software_packageVersion": version,
        "software_primaryPurpose": "data",
        "releaseTime": _whole_seconds(dataset["made"]),
        "builtTime": _whole_seconds(dataset["made"]),
        "software_downloadLocation": f"urn:stillhouse:dataset:{dataset['content_digest']}",
        "dataset_datasetType": ["text"],
        "dataset_datasetSize": dataset["rows"],
        "dataset_dataCollectionProcess": "Asked of models, or imported, each row with its origin: " + "; ".join(shares),
        "dataset_dataPreprocessing": [
            f"{out['rows']} rows left out at {out['step']}: {out['why']}" for out in predicate["exclusions"]
        ],
        "dataset_intendedUse": "training",
    }


def _whole_seconds(moment: str) -> str:
    """A moment as the model's DateTime has it: without fractions."""
    return re.sub(r"\.\d+Z$", "Z", moment)


def _file(graph: _Graph, subject: Mapping[str, Any]) -> str:
    hashes = [
        {"type": "Hash", "algorithm": algorithm, "hashValue": value} for algorithm, value in subject["digest"].items()
    ]
    return graph.add("software_File", f"file/{subject['name']}", name=subject["name"], verifiedUsing=hashes)


def _other(graph: _Graph, id: str, name: str, lab: str, terms: Sequence[str]) -> str:
    """A model that is not the passport's own: its base, or one whose answers it learned from."""
    maker = graph.add("Organization", f"lab/{lab or 'unknown'}", name=lab or "unknown")
    added = graph.add("ai_AIPackage", id, name=name or "unknown", suppliedBy=maker, software_primaryPurpose="model")
    graph.relate(added, "hasDeclaredLicense", [_licence(graph, licence_of(one).expression) for one in terms])
    return added


def _licence(graph: _Graph, expression: str) -> str:
    return graph.add(
        "simplelicensing_LicenseExpression", f"licence/{expression}", simplelicensing_licenseExpression=expression
    )


def _teachers(predicate: Mapping[str, Any]) -> dict[tuple[str, str], list[str]]:
    """The models whose answers it learned from, with their terms."""
    found: dict[tuple[str, str], set[str]] = {}
    for group in predicate["rows_by_origins"]:
        for stamp in group["origins"]:
            if stamp["model"]:
                found.setdefault((stamp["lab"], stamp["model"]), set()).update(stamp["terms"])
    return {key: sorted(terms) for key, terms in found.items()}


def _entries(values: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"type": "DictionaryEntry", "key": key, "value": str(value)} for key, value in values.items()]
