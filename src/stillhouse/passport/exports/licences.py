"""Under which licence a model that was trained here stands as far as its bases say, and what its name must begin with. Pure.

The licence of the bases is what a derived model can have at most; whether another one is put on top is for whoever publishes it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stillhouse.errors import PolicyRefusal

_LICENCE = "licence/"
# By our names of licences: SPDX's (spdx.org/licenses), and those that the Hugging Face hub takes.
_SPDX = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "cc0-1.0": "CC0-1.0",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
}
_HUB = {
    **{name: name for name in _SPDX},
    "llama-2": "llama2",
    "llama-3": "llama3",
    "llama-3.1": "llama3.1",
    "llama-3.2": "llama3.2",
    "llama-3.3": "llama3.3",
    "llama-4": "llama4",
    "gemma": "gemma",
    "bigcode-openrail-m-1": "bigcode-openrail-m",
}
_BEGINS_WITH = re.compile(r'begins with "([^"]+)"')


class Licence(NamedTuple):
    """A licence by our name, SPDX's and the hub's; the latter two are "" where they have none."""

    name: str
    spdx: str
    hub: str

    @property
    def expression(self) -> str:
        """As an SPDX licence expression."""
        return self.spdx or "LicenseRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", self.name)


def licence_of(terms: str) -> Licence:
    """The licence of terms (``licence/...``, or any other document)."""
    name = terms.removeprefix(_LICENCE).partition("@")[0]
    known = terms.startswith(_LICENCE)
    return Licence(name, _SPDX.get(name, "") if known else "", _HUB.get(name, "") if known else "")


def bases_of(predicate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The models that a model was made of. A passport of an earlier version has their names alone."""
    model = predicate["model"]
    return list(predicate.get("bases", ())) or [
        {"name": name, "model": name, "lab": "", "terms": [], "repository": "",
         "digest": model["base_digest"] if name == model["base"] else ""}
        for name in predicate["parents"]
    ]  # fmt: skip


def licences_of_bases(predicate: Mapping[str, Any]) -> list[Licence]:
    """Those of the models that a model was made of."""
    found = {terms for base in bases_of(predicate) for terms in base["terms"]}
    return [licence_of(terms) for terms in sorted(found)]


def published(statement: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A statement about a model that is published as ``name`` ("": as it is called here).

    Raises PolicyRefusal where its duties say how a name must begin, and this one does not.
    """
    predicate = statement["predicate"]
    name = name or predicate["model"]["name"]
    for beginning in beginnings(predicate["duties"]):
        if not name.casefold().startswith(beginning.casefold()):
            raise PolicyRefusal(
                f"{name} may not be the name of this model when it is published: it must begin with {beginning!r}.",
                next_step=f"Give --name {beginning}-..., under which it is published.",
            )
    return {**statement, "predicate": {**predicate, "model": {**predicate["model"], "name": name}}}


def beginnings(duties: Sequence[str]) -> list[str]:
    """What the name of a model must begin with, by its duties."""
    found = [_BEGINS_WITH.search(duty) for duty in duties]
    return sorted({match[1] for match in found if match})
