"""Ten million rows with ten thousand stamp sets: decided per set and joined, beside a decision per row.

The peers are one decision per row: our own, and the CEL library alone with a two-part condition, which is less than any of our
decisions asks. Both are timed on a sample and scaled.
"""

import argparse
import random
import time

import cel
import numpy
import pyarrow

from stillhouse.access.loader import StampGate
from stillhouse.home.stamping import stamp_set
from stillhouse.nouns import AccessChange, AccessKind, Channel, Grade, Origin, Stamp, Use
from stillhouse.permission.decide import OWN_TERMS, Door, Organisation, Policy, facts_of
from stillhouse.permission.rules import Rule, Rules, RuleTest
from stillhouse.permission.terms_registry import shipped


def stamp_sets(count: int) -> list:
    """Sets of one to three stamps, all different: labs, models, documents and days as a large corpus would have them."""
    draw = random.Random(0)
    documents = [version.id.partition("@")[0] for version in shipped().versions]
    labs = ["openai", "anthropic", "google", "xai", "deepseek", "mistral", "qwen", "meta", "moonshot", "own"]
    found = {}
    while len(found) < count:
        members = [
            Stamp(
                Origin.TEACHER, draw.choice(labs), f"model-{draw.randrange(40)}", draw.choice(list(Channel)),
                terms=(draw.choice([*documents, OWN_TERMS]),), purpose="train", grade=Grade.DECLARED,
                day=f"202{draw.randrange(4, 7)}-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}",
            )
            for _ in range(draw.randrange(1, 4))
        ]  # fmt: skip
        known = stamp_set(members)
        found[known.id] = known
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--sets", type=int, default=10_000)
    options = parser.parse_args()
    sets = stamp_sets(options.sets)
    ids = numpy.array([known.id for known in sets])
    column = pyarrow.array(ids[numpy.random.default_rng(0).integers(0, len(ids), options.rows)])
    organisation = Organisation(competes_with=("openai", "anthropic"))
    tests = (RuleTest(Use.TRAIN, True, {"lab": "qwen"}), RuleTest(Use.TRAIN, False, {"lab": "x"}))
    rule = Rule("no-qwen", "forbid", 'stamp.lab == "qwen" && use == "train"', "a rule", "ada", tests)
    change = AccessChange(id="1", kind=AccessKind.REVOKE, lab="xai", since="2026-01-15")
    for name, rules in (("without rules", Rules()), ("with a rule in CEL", Rules((rule,), facts_of(organisation)))):
        policy = Policy(organisation, rules=rules, changes=(change,))
        started = time.perf_counter()
        gate = StampGate(Use.TRAIN, {known.id: policy.check(Door.USE, known.stamps, Use.TRAIN) for known in sets})
        decided = time.perf_counter() - started
        mask = gate.mask(column)
        joined = time.perf_counter() - started
        allowed = mask.combine_chunks().true_count
        print(f"{name}: {options.rows:,} rows, {len(sets):,} sets: {joined:.2f} s ({decided:.2f} s to decide)")
        print(f"  {allowed:,} rows allowed")
        fresh = Policy(organisation, rules=rules, changes=(change,))
        sample = sets[:2000]
        started = time.perf_counter()
        for known in sample:
            for stamp in known.stamps:
                fresh._decide(stamp, Use.TRAIN)
        each = (time.perf_counter() - started) / len(sample)
        whole = each * options.rows
        print(
            f"  a decision per row: {1 / each:,.0f} rows/s, {whole:,.0f} s for all: {whole / joined:,.0f} times as long"
        )
    program = cel.compile('stamp.lab == "qwen" && use == "train"')
    given = {"stamp": {"lab": "qwen"}, "use": "train"}
    started = time.perf_counter()
    for _ in range(100_000):
        program.execute(given)
    each = (time.perf_counter() - started) / 100_000
    print(f"peer, CEL alone per row: {1 / each:,.0f} rows/s, {each * options.rows:,.0f} s for all")


if __name__ == "__main__":
    main()
