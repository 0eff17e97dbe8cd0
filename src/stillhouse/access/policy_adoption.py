"""Adopt the organisation's documents and teachers: files are drafts until somebody who answers for permission signs them."""

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from stillhouse.errors import CorruptObject, PlanRefused, UsageError
from stillhouse.home import facts
from stillhouse.home.current_permission import load
from stillhouse.home.ledger import origin_queries
from stillhouse.home.open_home import Home
from stillhouse.home.plans.prices import Price
from stillhouse.home.policy_documents import PolicyDocuments, adopted, differing, in_force, is_document, read_drafts
from stillhouse.home.proposals import Findings, Handling, Written, plan_act, propose, unlike
from stillhouse.nouns import Plan, PolicyAdoption, Teacher
from stillhouse.permission.acts.registrations import registration_digest
from stillhouse.permission.signatures import Signatory

ADOPT = "adopt-policy"
_SUBJECT = "policy"


class _Adoptions(Handling[PolicyAdoption]):
    kinds, name, content = (ADOPT,), "adoption", PolicyAdoption

    def differences(self, home: Home, plan: Plan, content: PolicyAdoption) -> list[str]:
        odd = [f"{name!r} is no document that decides" for name in content.documents if not is_document(name)]
        wrong = unlike("subject", plan.subject, _SUBJECT) + unlike("what", plan.does.get("what"), _what(home, content))
        _texts(home, content)  # nobody agrees to what cannot be shown
        return odd + wrong

    def found(self, home: Home, content: PolicyAdoption) -> Findings:
        return Findings({"what": _what(home, content), "documents": _texts(home, content)}, {})

    def prepare(self, home: Home, content: PolicyAdoption) -> None:
        """Raises PlanRefused where a document is no longer there, and what an unreadable document raises."""
        _stored(home, content).check()

    def carry_out(self, plan: Plan, content: PolicyAdoption, written: Written, prepared: Any) -> dict[str, Any]:
        written.home.recorder.record(facts.PolicyAdopted(adoption=content, **written.shared))
        return {"documents": content.documents, "teachers": len(content.teachers), "signed by": written.signed_by}


ADOPTIONS = _Adoptions()


def own_prices(home: Home) -> tuple[Price, ...]:
    """The organisation's own prices that count. Raises RecipeError, TermsError, CorruptObject."""
    return in_force(home.settings, load(home.ledger, home.settings).state, home.objects).prices


def plan_adoption(home: Home) -> Plan:
    """The present files and registrations as a plan. Their bytes go into the vault, so that others can read what they approve.

    Raises UsageError where there is no roster; TermsError, RuleError, RecipeError where a document cannot be relied on.
    """
    if load(home.ledger, home.settings).state.roster is None:
        raise UsageError(
            "There is no roster, so the files decide as they are.",
            next_step="`stillhouse identity enrol NAME --role governance` makes one, and adopts them.",
        )
    files = read_drafts(home.settings).whole()
    files.check()
    documents = {name: home.objects.put(data) for name, data in sorted(files.bytes.items())}
    registered = origin_queries.teachers(home.ledger)  # what is a draft is signed by `teacher add`, which looks at it
    content = PolicyAdoption(
        documents=documents, teachers=tuple(sorted({registration_digest(teacher) for teacher in registered}))
    )
    does = {"adoption": msgspec.to_builtins(content), "what": _what(home, content)}
    return plan_act(home, ADOPTIONS, ADOPT, _SUBJECT, does)


def adopt_as(home: Home, signatory: Signatory) -> None:
    """Adopt what is there, as the first member of a roster that was made just now. Raises like ``plan_adoption``."""
    propose(home, ADOPTIONS, plan_adoption(home), signatory)


def check_drafts(home: Home) -> None:
    """Raises TermsError, RuleError, RecipeError where the files could not be adopted."""
    read_drafts(home.settings).whole().check()


def _what(home: Home, content: PolicyAdoption) -> list[str]:
    """What an adoption changes, in words; every document and teacher at the first one."""
    before = adopted(load(home.ledger, home.settings).state)
    lines = differing(before.documents if before else {}, content.documents)
    known = {registration_digest(one): one for one in origin_queries.teachers(home.ledger)}
    was = {*before.teachers, *(registration_digest(one) for one in _added(home))} if before else set()
    new = sorted((known[digest] for digest in content.teachers if digest in known and digest not in was), key=_name)
    unknown = [digest for digest in content.teachers if digest not in known and digest not in was]
    return [*lines, *(f"teacher {_described(one)}" for one in new), *(f"teacher {one} is unknown" for one in unknown)]


def _name(teacher: Teacher) -> str:
    return teacher.name


def _described(teacher: Teacher) -> str:
    """What is signed of a teacher, on a line."""
    where = teacher.base_url or teacher.weights_digest
    return f"{teacher.name}: {teacher.model} of {teacher.lab}, {teacher.channel}, {', '.join(teacher.terms)}, {where}"


def _added(home: Home) -> tuple[Teacher, ...]:
    return load(home.ledger, home.settings).state.of(Teacher)


def _texts(home: Home, content: PolicyAdoption) -> dict[str, list[str]]:
    """Each changed document as the lines by which it differs from what decides now."""
    before = adopted(load(home.ledger, home.settings).state)
    was: Mapping[str, str] = before.documents if before else {}
    found = {}
    for name in sorted(was.keys() | content.documents.keys()):
        if was.get(name) != content.documents.get(name):
            found[name] = list(
                difflib.unified_diff(
                    _lines(home, was.get(name)), _lines(home, content.documents.get(name)), lineterm=""
                )
            )[2:]
    return found


def _lines(home: Home, digest: str | None) -> list[str]:
    """The lines as TOML has them; what a terminal would show otherwise is written out."""
    text = home.objects.get(digest).decode("utf-8", "backslashreplace") if digest else ""
    return [
        "".join(one if one.isprintable() or one == "\t" else repr(one)[1:-1] for one in line)
        for line in text.split("\n")
    ]


def _stored(home: Home, content: PolicyAdoption) -> PolicyDocuments:
    try:
        return PolicyDocuments(
            {name: home.objects.get(digest) for name, digest in content.documents.items()}, "adopted"
        )
    except CorruptObject as failure:
        raise PlanRefused(f"A document that it names is not in the vault: {failure.detail}") from failure
