"""An organisation's own rules: conditions in CEL (cel.dev), on top of the table. Forbid wins.

Covers: a condition sees one stamp, the use and the organisation's facts, and nothing else; it must be short, has no loops and no
regular expressions, so that its cost is bounded by its length; a rule whose own tests fail, or that does not come to a truth
value, is refused before anything is decided. Does not cover: whether a rule is wise.
"""

import re
import tomllib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from stillhouse.errors import RuleError
from stillhouse.nouns import Stamp, Use

# A page of condition is more than anybody reads; with neither loops nor regular expressions, length bounds the cost.
_LONGEST = 2000
_NAMES = {"stamp", "use", "organisation"}
# Macros that loop over a list, and functions whose cost is not bounded by the length of what they are given.
_LOOPS = re.compile(r"\.\s*(all|exists|exists_one|map|filter|matches)\s*\(")
_FUNCTIONS = {
    "_&&_", "_||_", "!_", "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "_?_:_", "@in", "in", "_in_", "has", "startsWith",
    "endsWith", "contains", "size",
}  # fmt: skip


class RuleTest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a rule must come to for a stamp and a use."""

    use: Use
    matches: bool
    stamp: dict[str, Any] = {}


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where ``when`` is true, the use is forbidden; or a denial of the organisation's own (a channel) is lifted."""

    name: str
    effect: Literal["forbid", "permit"]
    when: str
    reason: str
    owner: str
    test: tuple[RuleTest, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: tuple[Rule, ...] = ()


class Rules:
    """Rules, compiled and tried on their own tests."""

    def __init__(self, rules: tuple[Rule, ...] = (), facts: Mapping[str, Any] | None = None) -> None:
        """``facts`` are the organisation's. Raises RuleError."""
        self.rules, self._facts = rules, dict(facts or {})
        self._programs = {rule.name: _compile(rule) for rule in rules}
        self._fields = {rule.name: [name for name in Stamp.__struct_fields__ if name in rule.when] for rule in rules}
        if len(self._programs) != len(rules):
            raise RuleError("Two rules have the same name.")
        for rule in rules:
            self._try(rule)

    def matching(self, stamp: Stamp, use: Use) -> list[Rule]:
        """The rules that are about this. Raises RuleError."""
        if not self.rules:
            return []
        return [rule for rule in self.rules if self._holds(rule, stamp, use)]

    def _try(self, rule: Rule) -> None:
        if not any(test.matches for test in rule.test) or all(test.matches for test in rule.test):
            raise RuleError(
                f"Rule {rule.name!r} needs at least one test that it matches and one that it does not.",
                next_step='Add [[rule.test]] entries below it: stamp = {...}, use = "...", matches = true or false.',
            )
        for test in rule.test:
            try:
                stamp = msgspec.convert({"origin": "teacher", **test.stamp}, Stamp)
            except msgspec.ValidationError as failure:
                raise RuleError(f"A test of rule {rule.name!r} has no stamp: {failure}.") from failure
            if self._holds(rule, stamp, test.use) is not test.matches:
                wanted = "match" if test.matches else "leave alone"
                raise RuleError(f"Rule {rule.name!r} does not {wanted} {test.stamp} for {test.use}, as its test says.")

    def _holds(self, rule: Rule, stamp: Stamp, use: Use) -> bool:
        # Handing a value over costs more than deciding: a rule gets the fields that it names.
        fields = {name: _plain(getattr(stamp, name)) for name in self._fields[rule.name]}
        given = {"stamp": fields, "use": str(use), "organisation": self._facts}
        try:
            value = self._programs[rule.name].execute(given)
        except KeyError as failure:
            known = ", ".join(Stamp.__struct_fields__)
            raise RuleError(
                f"Rule {rule.name!r} asks for {failure}, which there is not; a stamp has: {known}; an organisation: "
                f"{', '.join(self._facts)}."
            ) from failure
        except Exception as failure:  # whatever the library raises: a rule that cannot be decided must not let pass
            raise RuleError(f"Rule {rule.name!r} cannot be decided: {failure}.") from failure
        if not isinstance(value, bool):
            raise RuleError(f"Rule {rule.name!r} comes to {value!r}, and not to true or false.")
        return value


def parse_rules(data: bytes, name: str, facts: Mapping[str, Any]) -> Rules:
    """The rules of a TOML document. Raises RuleError, which calls it by ``name``."""
    try:
        content = msgspec.convert(tomllib.loads(data.decode("utf-8")), _File)
    except (ValueError, msgspec.ValidationError) as failure:
        raise RuleError(f"{name}: {failure}.") from failure
    return Rules(content.rule, facts)


def reach(rules: Rules, stamps: list[Stamp]) -> dict[str, int]:
    """Of how many (stamp, use) pairs each rule is about: one that matches nothing, or everything, is worth a look."""
    counts = {rule.name: 0 for rule in rules.rules}
    for stamp in stamps:
        for use in Use:
            for rule in rules.matching(stamp, use):
                counts[rule.name] += 1
    return counts


def _compile(rule: Rule) -> Any:
    if len(rule.when) > _LONGEST:
        raise RuleError(f"The condition of rule {rule.name!r} has {len(rule.when)} characters; at most {_LONGEST}.")
    if _LOOPS.search(rule.when):
        raise RuleError(
            f"The condition of rule {rule.name!r} loops or uses regular expressions: its cost has no bound."
        )
    import cel

    try:
        program = cel.compile(rule.when)
        functions, names = set(program.functions()), set(program.variables())
    except Exception as failure:
        raise RuleError(f"The condition of rule {rule.name!r} cannot be read: {_first_line(failure)}") from failure
    if functions - _FUNCTIONS:
        raise RuleError(f"Rule {rule.name!r} uses {', '.join(sorted(functions - _FUNCTIONS))}, which is not offered.")
    if names - _NAMES:
        raise RuleError(
            f"Rule {rule.name!r} speaks of {', '.join(sorted(names - _NAMES))}; there is stamp, use and organisation."
        )
    return program


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else str(value)


def _first_line(failure: Exception) -> str:
    return (str(failure).splitlines() or [type(failure).__name__])[0]
