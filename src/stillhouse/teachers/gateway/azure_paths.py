"""Azure's paths to OpenAI's API: the deployment stands in the path, the key in ``api-key``, and a version in the query. No I/O.

A deployment is the model of a teacher here. Served are the clients of Azure; a teacher that is Azure itself is registered by the
base URL of its own v1 API. Source: Microsoft, "Azure OpenAI in Foundry Models REST API reference".
"""

import re
from urllib.parse import parse_qsl, unquote, urlencode

import msgspec

KEY_HEADER = "api-key"
_DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)/(chat/completions|completions|embeddings)")
_WITHOUT = re.compile(r"/openai/(?:v1/)?(chat/completions|completions|embeddings|responses)")
_VERSION = "api-version"
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def plain_path(path: str) -> tuple[str, str]:
    """The path as OpenAI's clients write it, and the deployment that it names; any other path as it is."""
    if match := _DEPLOYMENT.fullmatch(path):
        return f"/v1/{match[2]}", unquote(match[1])
    if match := _WITHOUT.fullmatch(path):
        return f"/v1/{match[1]}", ""
    return path, ""


def with_deployment(body: bytes, deployment: str) -> bytes:
    """A request that asks the deployment of its path, whatever model it names. Raises msgspec.MsgspecError."""
    fields = _FIELDS.decode(body)
    model = msgspec.Raw(msgspec.json.encode(deployment))
    return msgspec.json.encode({**fields, "model": model})


def without_version(query: str) -> str:
    """A query without Azure's version, which other servers do not know."""
    if _VERSION not in query:
        return query
    return urlencode([(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name != _VERSION])
