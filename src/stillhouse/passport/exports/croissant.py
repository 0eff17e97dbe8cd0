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


_PARQUET, _SHARDS = "application/x-parquet", "shards"


def to_croissant(statement: Mapping[str, Any]) -> str:
    """A statement as JSON-LD about its dataset."""
    predicate = statement["predicate"]
    dataset = predicate["dataset"]
    name, _, version = dataset["label"].partition("@")
    encrypted = "erasable" in dataset  # then the file is no table to whoever has not its source's key
    shards = [subject for subject in statement["subject"] if subject["name"].startswith("dataset/rows")]
    several = len(shards) > 1
    source = {"fileSet": {"@id": _SHARDS}} if several else {"fileObject": {"@id": "rows.parquet"}}
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
            *(_file(shard, "application/octet-stream" if encrypted else _PARQUET) for shard in shards),
            *([_file_set()] if several and not encrypted else []),
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
                        "source": {**source, "extract": {"column": field}},
                    }
                    for field, kind in _FIELDS.items()
                ],
            }
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _file(shard: Mapping[str, Any], encoding: str) -> dict[str, str]:
    name = shard["name"].removeprefix("dataset/")
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "encodingFormat": encoding,
        "sha256": shard["digest"]["sha256"],
    }


def _file_set() -> dict[str, str]:
    """The shards of a large dataset, which are one table."""
    return {
        "@type": "cr:FileSet",
        "@id": _SHARDS,
        "name": _SHARDS,
        "encodingFormat": _PARQUET,
        "includes": "rows*.parquet",
    }
