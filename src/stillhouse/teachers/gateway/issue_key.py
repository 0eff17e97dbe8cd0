"""Issue keys to the gateway: what they name must exist."""

import re
from datetime import date

from stillhouse.errors import UsageError
from stillhouse.home.ledger import gateway_queries, origin_queries
from stillhouse.home.open_home import Home
from stillhouse.home.plans.prices import parse_usd
from stillhouse.nouns import GatewayKey, Use
from stillhouse.teachers.gateway.keyring import issue

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def issue_key(
    home: Home,
    name: str,
    project: str,
    uses: tuple[Use, ...],
    teachers: tuple[str, ...],
    budget: str,
    expires: str,
    max_tokens: int = 0,
    inputs: tuple[str, ...] = (),
) -> tuple[GatewayKey, str]:
    """A new key and its secret. Raises UsageError, UnknownName."""
    for what, word in (("name", name), ("project", project)):
        if not _WORD.fullmatch(word):
            raise UsageError(f"{word!r} is no {what}: use letters, digits, dot, dash and underscore.")
    for teacher in teachers:
        origin_queries.teacher(home.ledger, teacher)
    if expires:
        _check_day(expires)
        if expires < home.today:
            raise UsageError(f"{expires} is over already: the key would never be valid.")
    if budget:
        parse_usd(budget, "--budget")
    taken = [
        key for key, revoked in gateway_queries.gateway_keys(home.ledger).items() if key.name == name and not revoked
    ]
    if taken:
        raise UsageError(
            f"A key for {name!r} is in force already ({taken[0].id}).", next_step="Revoke it, or take another name."
        )
    scopes = GatewayKey(
        id="", name=name, digest="", project=project, uses=uses, teachers=teachers, budget=budget, expires=expires,
        max_tokens=max_tokens, inputs=inputs,
    )  # fmt: skip
    return issue(home.recorder, home.marker, scopes)


def _check_day(text: str) -> None:
    try:
        written = date.fromisoformat(text).isoformat()
    except ValueError:
        written = ""
    if written != text:  # days are compared as text
        raise UsageError(f"{text!r} is not a date.", next_step="Write YYYY-MM-DD.")
