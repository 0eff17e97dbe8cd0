"""The public summary of training content that Art. 53(1)(d) of the EU AI Act asks of providers of general-purpose models.

It follows the Commission's template (published on 24 July 2025; C(2025) 8311) section by section, in our words: what the passport
says is filled in, each question that it answers gets its yes or no, and what only the provider knows is left open, and marked so.
It is a draft for whoever answers for it, and no legal advice.
"""

from collections.abc import Mapping
from typing import Any

from stillhouse.permission.decide import OWN_TERMS

_PUBLIC = "2.1 Publicly available datasets"
_PRIVATE = "2.2 Private datasets obtained from third parties"
_CRAWLED = "2.3 Data crawled and scraped from online sources"
_USERS = "2.4 User data"
_SYNTHETIC = "2.5 Synthetic data"
_OTHER = "2.6 Other sources of data"
_OPEN = "*to be completed by the provider*"
_NOT_APPLICABLE = "not applicable"
_LICENCE = "licence/"
# Size of the training data in tokens (template, 1.3): below which a band ends, and what it is called.
_BANDS = ((10**9, "less than 1 billion tokens"), (10**13, "1 billion to 10 trillion tokens"))


def to_summary(statement: Mapping[str, Any]) -> str:
    """A statement as Markdown."""
    predicate = statement["predicate"]
    model = predicate["model"]
    return "\n".join(
        [
            f"# Public summary of training content: {model['name']}, version {model['version']}",
            "",
            *_general(predicate),
            *_sources(predicate),
            *_processing(predicate),
        ]
    )


def section_of(stamp: Mapping[str, Any]) -> str:
    """The section that a stamp is told in. Own work, prompts included, is no dataset that anybody else could have; what others
    published of a model is a public dataset, and not synthetic data that was made for this one.
    """
    terms = set(stamp["terms"])
    origin, public = stamp["origin"], any(one.startswith(_LICENCE) for one in terms)
    if origin in ("teacher", "own model"):
        return _PUBLIC if stamp.get("channel") == "published" else _SYNTHETIC
    if origin == "web":
        return _CRAWLED
    if origin in ("human", "licensed", "prompt seed"):
        if public:
            return _PUBLIC
        return _PRIVATE if terms - {OWN_TERMS} or (origin != "prompt seed" and not terms) else _OTHER
    return _OTHER


def _general(predicate: Mapping[str, Any]) -> list[str]:
    model, dataset, origins = predicate["model"], predicate["dataset"], predicate["origins"]
    tokens = sum(max(group["tokens"], 0) for group in predicate["rows_by_origins"])
    counted = bool(predicate["rows_by_origins"]) and all(group["tokens"] >= 0 for group in predicate["rows_by_origins"])
    size = tokens if counted else model["tokens"]
    band = next((name for below, name in _BANDS if size < below), "more than 10 trillion tokens")
    days = sorted(stamp["day"] for stamp in origins if stamp["day"])
    depends = [
        f"{base['repository'] or base['model']} of {base['lab']} (`{base['digest'] or 'digest not known'}`)"
        for base in predicate.get("bases", ())
    ] or [f"{model['base']} (`{model['base_digest'] or 'not known'}`)"]
    return [
        "## 1. General information",
        "",
        "### 1.1 Provider",
        "",
        f"- Provider's name and contact: {_OPEN}",
        f"- Authorised representative's name and contact: {_OPEN}",
        "",
        "### 1.2 Model",
        "",
        f"- Versioned model name: {model['name']}@{model['version']}, weights `{model['weights_digest']}`",
        f"- Model dependencies: {'; '.join(depends)}; summary of each: {_OPEN}",
        f"- Date of placement on the Union market: {_OPEN} (trained {model['made'][:10]})",
        "",
        "### 1.3 Modalities, size and other characteristics",
        "",
        "- Modality: text: yes; image: no; audio: no; video: no; other: source code",
        f"- Training data size: {band} ({size:,} tokens; {dataset['rows'] if dataset else 'no'} rows)",
        "- Types of content: tasks in natural language, and source code that solves them",
        f"- Latest date of data acquisition: {days[-1] if days else 'not recorded'}; continuously trained afterwards: {_OPEN}",
        f"- Linguistic characteristics: {_OPEN}",
        f"- Other characteristics: {_OPEN}",
        "",
    ]


def _sources(predicate: Mapping[str, Any]) -> list[str]:
    found = {heading: [stamp for stamp in predicate["origins"] if section_of(stamp) == heading] for heading in _ALL}
    return [
        "## 2. List of data sources",
        "",
        "This section is about the training that is recorded in the passport; what its bases learned from is for their providers "
        "to say.",
        "",
        *_public(found[_PUBLIC]),
        *_private(found[_PRIVATE]),
        *_crawled(found[_CRAWLED]),
        *_users(),
        *_synthetic(predicate, found[_SYNTHETIC]),
        *_section(_OTHER, "Were sources used that are in none of 2.1 to 2.5?", found[_OTHER]),
    ]


_ALL = (_PUBLIC, _PRIVATE, _CRAWLED, _USERS, _SYNTHETIC, _OTHER)


def _section(heading: str, question: str, stamps: list[Any], *more: str, level: str = "###") -> list[str]:
    """A question with the answer that the passport gives, and what it was told by."""
    lines = [f"{level} {heading}", "", f"- {question} {'Yes' if stamps else 'No'}"]
    return [*lines, *dict.fromkeys(_source(stamp) for stamp in stamps), *(more if stamps else ()), ""]


def _public(stamps: list[Any]) -> list[str]:
    return _section(
        _PUBLIC,
        "Were publicly available datasets used?",
        stamps,
        "- Modality: text",
        f"- Name and link of each that is more than 3 % of them: {_OPEN}",
        f"- Description of the others: {_OPEN}",
    )


def _private(stamps: list[Any]) -> list[str]:
    licensed = [stamp for stamp in stamps if stamp["origin"] == "licensed"]
    others = [stamp for stamp in stamps if stamp["origin"] != "licensed"]
    of_rightsholders = "2.2.1 Commercially licensed by rightsholders or their representatives"
    lines = _section(of_rightsholders, "Were such licences concluded?", licensed, "- Modality: text", level="####")
    lines += _section(
        "2.2.2 From other third parties",
        "Were private datasets obtained that are not licensed as in 2.2.1?",
        others,
        "- Modality: text",
        f"- Names of those that are publicly known, description of the others: {_OPEN}",
        level="####",
    )
    return [f"### {_PRIVATE}", "", *lines]


def _crawled(stamps: list[Any]) -> list[str]:
    days = sorted(stamp["day"] for stamp in stamps if stamp["day"])
    return _section(
        _CRAWLED,
        "Were crawlers used by the provider or on its behalf?",
        stamps,
        f"- Crawlers' names and identifiers, their purposes and behaviour (robots.txt, captchas, paywalls): {_OPEN}",
        f"- Period of collection: {f'{days[0]} to {days[-1]}' if days else _OPEN}",
        f"- Types of content and of sources: {_OPEN}",
        f"- Most relevant domain names (the top 10 %, for SMEs 5 % or 1,000): {_OPEN}",
    )


def _users() -> list[str]:
    return [
        f"### {_USERS}",
        "",
        f"- Was data from interactions of users with the model used? {_OPEN}",
        f"- Was data from interactions of users with other services of the provider used? {_OPEN}",
        f"- Services, modalities: {_OPEN}",
        "",
    ]


def _synthetic(predicate: Mapping[str, Any], stamps: list[Any]) -> list[str]:
    """Which models' outputs were learned from, with their shares: from the log, not from memory."""
    rows: dict[tuple[str, str, str], int] = {}
    for group in predicate["rows_by_origins"]:
        for stamp in group["origins"]:
            if section_of(stamp) == _SYNTHETIC:
                key = (stamp["lab"], stamp["model"], stamp["channel"])
                rows[key] = rows.get(key, 0) + group["rows"]
    total = predicate["dataset"]["rows"] if predicate["dataset"] else 0
    used = bool(rows or stamps)
    lines = [
        f"### {_SYNTHETIC}",
        "",
        f"- Was synthetic data made by the provider or on its behalf to train the model? {'Yes' if used else 'No'}",
    ]
    if not used:
        return [*lines, ""]
    terms = ", ".join(f"`{version['id']}`" for version in predicate["terms_versions"]) or "none recorded"
    own = any(stamp["origin"] == "own model" for stamp in stamps)
    lines += ["- Modality: text and code, by distillation", "", "| model | lab | reached by | rows | share of rows |"]
    lines += ["|---|---|---|---|---|"]
    lines += [
        f"| {model} | {lab} | {channel} | {count} | {count / total:.2%} |"
        for (lab, model, channel), count in sorted(rows.items(), key=lambda item: (-item[1], item[0]))
    ]
    return [
        *lines,
        "",
        f"- Terms under which they were obtained: {terms}",
        f"- General-purpose models among them that are on the market, with links to their summaries: {_OPEN}",
        f"- Other models, the provider's own included: {'yes, as listed' if own else _NOT_APPLICABLE}",
        "",
    ]


def _processing(predicate: Mapping[str, Any]) -> list[str]:
    lines = [
        "## 3. Data processing aspects",
        "",
        "### 3.1 Respect of reservations of rights (text and data mining)",
        "",
        f"- Signatory to the Code of Practice for general-purpose AI models: {_OPEN}",
        f"- Measures to respect reservations under Art. 4(3) of Directive (EU) 2019/790 before and during collection: {_OPEN}",
        "",
        "### 3.2 Removal of illegal content",
        "",
        f"- Measures taken: {_OPEN}",
        "",
        "### 3.3 Other information",
        "",
        f"- Permission was checked against revocations as of {predicate['revocation_checked_as_of']}.",
    ]
    lines += [f"- This model is concerned by: {touched}" for touched in predicate["revocations_that_touch_it"]]
    lines += [f"- Duty of a licence or of terms: {duty}" for duty in predicate["duties"]]
    lines += [f"- {out['rows']} rows left out at `{out['step']}`: {out['why']}" for out in predicate["exclusions"]]
    return [*lines, ""]


def _source(stamp: Mapping[str, Any]) -> str:
    terms = ", ".join(stamp["terms"]) or "terms not recorded"
    lab = f" of {stamp['lab']}" if stamp["lab"] else ""
    return f"- {stamp['origin']}{lab}: {terms}, {stamp['day'] or 'day not recorded'}"
