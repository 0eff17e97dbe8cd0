"""MLCommons Croissant 1.0 for the dataset that a model learned from (docs.mlcommons.org/croissant). Validated by mlcroissant."""

import json
from collections.abc import Mapping
from typing import Any

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FIELDS = {"key": "sc:Text", "task": "sc:Text", "response": "sc:Text", "code": "sc:Text", "stamps": "sc:Integer"}


def to_croissant(statement: Mapping[str, Any]) -> str:
    """A statement as JSON-LD about its dataset."""
    predicate = statement["predicate"]
    dataset = predicate["dataset"]
    name, _, version = dataset["label"].partition("@")
    encrypted = "erasable" in dataset  # then the file is no table to whoever has not its source's key
    rows = next(subject for subject in statement["subject"] if subject["name"] == "dataset/rows.parquet")
    labs = ", ".join(f"{share['lab']} ({share['rows']} rows)" for share in predicate["shares"])
    terms = [entry["id"] for entry in predicate["terms_versions"]]
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": f"Answers of models to coding tasks, with the origin of each row: {labs}.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "version": f"{version}.0.0",
        "datePublished": dataset["made"][:10],
        "license": ", ".join(terms) or "not recorded",
        "url": f"urn:stillhouse:dataset:{dataset['content_digest']}",
        "citeAs": dataset["manifest_digest"],
        "rai:dataCollection": "Asked of the teachers that the passport names, through the channels that it names.",
        "rai:machineAnnotationTools": predicate["teachers"],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "rows.parquet",
                "name": "rows.parquet",
                "contentUrl": "rows.parquet",
                "encodingFormat": "application/octet-stream" if encrypted else "application/x-parquet",
                "sha256": rows["digest"]["sha256"],
            }
        ],
        "recordSet": []
        if encrypted
        else [
            {
                "@type": "cr:RecordSet",
                "@id": "rows",
                "name": "rows",
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"rows/{field}",
                        "name": f"rows/{field}",
                        "dataType": kind,
                        "source": {"fileObject": {"@id": "rows.parquet"}, "extract": {"column": field}},
                    }
                    for field, kind in _FIELDS.items()
                ],
            }
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)
