"""Secrets in text, by the forms that their vendors give them. Pure.

Covers: keys and tokens whose vendor marks them by a prefix and a length, private keys in PEM, and passwords in URLs. Does not
cover: secrets without a form of their own (a password in a sentence, a random string), since looking for entropy finds hashes,
ids and paths in what tools print, hundreds of them for each real secret; secrets that are cut, or broken over lines. Sources: the
vendors' own documentation of their tokens, GitHub's list of secret scanning patterns.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Secret(NamedTuple):
    """A secret that was found: whose form it has, and where it stands."""

    kind: str
    start: int
    end: int


# Kind, the literals of which one begins every such secret (finding them is fast, and most text has none), and what follows.
# Where a form says ``secret``, that alone is it.
_FORMS: tuple[tuple[str, str, str], ...] = (
    ("anthropic key", "sk-ant-", r"[a-z0-9]{3,12}-[A-Za-z0-9_-]{40,200}"),
    ("openai key", "sk-proj- sk-svcacct- sk-admin-", r"[A-Za-z0-9_-]{40,200}"),
    ("openai key", "sk-", r"[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}"),
    ("openrouter key", "sk-or-v1-", r"[0-9a-f]{64}"),
    ("deepseek key", "sk-", r"[0-9a-f]{32}"),
    ("groq key", "gsk_", r"[A-Za-z0-9]{48,56}"),
    ("xai key", "xai-", r"[A-Za-z0-9]{70,90}"),
    ("perplexity key", "pplx-", r"[A-Za-z0-9]{40,60}"),
    ("replicate token", "r8_", r"[A-Za-z0-9]{37}"),
    ("hugging face token", "hf_", r"[A-Za-z]{34}"),
    ("github token", "ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9]{36,251}"),
    ("github token", "github_pat_", r"[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    ("gitlab token", "glpat- glptt- gldt- glrt- glcbt- glsoat- glft- glimt- glagent-",
     r"[A-Za-z0-9_-]{20,60}(?:\.[A-Za-z0-9]{2,20}){0,3}"),
    ("aws key id", "AKIA ASIA", r"[A-Z2-7]{16}"),
    ("aws secret key", "secret_access_key SECRET_ACCESS_KEY SecretAccessKey secretAccessKey",
     r"[\\\"']{0,2}\s{0,3}[=:]\s{0,3}[\\\"']{0,2}(?P<secret>[A-Za-z0-9/+]{40})"),
    ("google api key", "AIza", r"[A-Za-z0-9_-]{35}"),
    ("google oauth token", "ya29.", r"[A-Za-z0-9_-]{60,300}"),
    ("google client secret", "GOCSPX-", r"[A-Za-z0-9_-]{28}"),
    ("azure storage key", "AccountKey=", r"(?P<secret>[A-Za-z0-9+/]{86}==)"),
    ("slack token", "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs-", r"[A-Za-z0-9-]{20,250}"),
    ("slack webhook", "hooks.slack.com/services/", r"(?P<secret>T[A-Z0-9]{6,12}/B[A-Z0-9]{6,12}/[A-Za-z0-9]{20,30})"),
    ("stripe key", "sk_live_ rk_live_", r"[A-Za-z0-9]{24,120}"),
    ("sendgrid key", "SG.", r"[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    ("npm token", "npm_", r"[A-Za-z0-9]{36}"),
    ("pypi token", "pypi-AgE", r"[A-Za-z0-9_-]{50,250}"),
    ("digitalocean token", "dop_v1_ doo_v1_ dor_v1_", r"[0-9a-f]{64}"),
    ("databricks token", "dapi", r"[0-9a-f]{32}(?:-\d)?"),
    ("shopify token", "shpat_ shpca_ shppa_ shpss_", r"[0-9a-fA-F]{32}"),
    ("linear key", "lin_api_", r"[A-Za-z0-9]{40}"),
    ("vault token", "hvs. hvb. hvr.", r"[A-Za-z0-9_-]{90,200}"),
    ("telegram token", ":AA", r"(?<=\d{8}:AA)(?P<secret>[A-Za-z0-9_-]{32,34})"),
    ("private key", "-----BEGIN ", r"(?P<what>[A-Z ]{0,20})PRIVATE KEY(?: BLOCK)?-----"
     r"(?P<secret>(?:[A-Za-z0-9+/=\s\\:,]|-(?!-)){60,20000}?)-----END (?P=what)PRIVATE KEY(?: BLOCK)?-----"),
    ("password in a url", "://", r"[^\s:/@\"'<>{}$\\]{1,60}:(?P<secret>[^\s:/@\"'<>{}$\\]{6,80})@[A-Za-z0-9.-]{2,}"),
)  # fmt: skip


def _signs(listed: str) -> list[str]:
    return [listed] if listed.endswith(" ") else listed.split()


_COMPILED = tuple(
    (kind, sign, re.compile(rf"{form}(?![A-Za-z0-9_])")) for kind, signs, form in _FORMS for sign in _signs(signs)
)
# Documentation shows keys of one letter, or that say that they are none.
_FEWEST_LETTERS = 8
_SAMPLE = re.compile(
    r"example|sample|placeholder|redacted|your[-_]?|xxxx|password|passwd|secret|1234567890|changeme|\*\*\*",
    re.IGNORECASE,
)


def find_secrets(text: str) -> list[Secret]:
    """The secrets in a text, in order, none within another."""
    found: list[Secret] = []
    for one in sorted(_found(text), key=lambda one: (one.start, -one.end)):
        if not found or one.start >= found[-1].end:
            found.append(one)
    return found


def redact(text: str) -> tuple[str, list[str]]:
    """A text with the kind of each secret in its place, and those kinds."""
    found = find_secrets(text)
    pieces, end = list[str](), 0
    for secret in found:
        pieces += [text[end : secret.start], f"[{secret.kind}]"]
        end = secret.end
    return ("".join([*pieces, text[end:]]) if found else text), [secret.kind for secret in found]


def _begins(text: str, place: int) -> bool:
    """Does a word begin at a place? What JSON writes for the end of a line before it is no letter."""
    before = text[max(0, place - 2) : place]
    return not (before[-1:].isalnum() or before[-1:] == "_") or (before[:1] == "\\" and before[1:] in tuple("nrtbf"))


def _found(text: str) -> Iterator[Secret]:
    for kind, sign, form in _COMPILED:
        place = text.find(sign)
        while place >= 0:
            after = place + len(sign)
            match = form.match(text, after) if "secret" in form.groupindex or _begins(text, place) else None
            if match is not None:
                start, end = match.span("secret") if "secret" in form.groupindex else (place, match.end())
                said = text[start:end]
                if len(set(said)) >= _FEWEST_LETTERS and not _SAMPLE.search(said):
                    yield Secret(kind, start, end)
            place = text.find(sign, after)
