"""From a verdict to a decision: one row per verdict, one column per use."""

from enum import StrEnum

from stillhouse.nouns import Use


class TermsVerdict(StrEnum):
    """What a document says about using outputs to train another model."""

    ALLOW = "allow"
    CONDITIONS = "conditions"
    NO_COMPETING_MODEL = "no-competing-model"
    NO_MODEL = "no-model"
    NO_GENERATION_FOR_TRAINING = "no-generation-for-training"
    NON_COMMERCIAL = "non-commercial"
    NO_USE_BY_COMPETITORS = "no-use-by-competitors"
    FORBIDDEN = "forbidden"
    UPSTREAM = "upstream"
    UNCLEAR = "unclear"
    UNKNOWN = "unknown"


class Cell(StrEnum):
    """A cell of the table."""

    ALLOW = "allow"
    DENY = "deny"
    IF_NOT_COMPETING = "if not competing"
    IF_NOT_FOR_TRAINING = "if not collected for training"
    IF_NON_COMMERCIAL = "if non-commercial"


_A, _D = Cell.ALLOW, Cell.DENY
_C, _P, _N = Cell.IF_NOT_COMPETING, Cell.IF_NOT_FOR_TRAINING, Cell.IF_NON_COMMERCIAL

# Order of columns: store, evaluate, train-internal-classifier, train, release-weights, publish-data.
# Storing what is not understood is allowed so that evidence is kept; nothing can be made of it.
# What may not be generated for training is not trained on, whatever it was collected for: the clause can be read to bar the
# purpose alone, but then a word at the time of asking would lift it. Of two readings the stricter counts; an agreement lifts it.
# Publishing data under a competition clause is denied whatever oneself does: others would compete with it.
_ROWS: dict[TermsVerdict, tuple[Cell, ...]] = {
    TermsVerdict.ALLOW: (_A, _A, _A, _A, _A, _A),
    TermsVerdict.CONDITIONS: (_A, _A, _A, _A, _A, _A),
    TermsVerdict.NO_COMPETING_MODEL: (_A, _A, _C, _C, _C, _D),
    TermsVerdict.NO_MODEL: (_A, _A, _D, _D, _D, _D),
    TermsVerdict.NO_GENERATION_FOR_TRAINING: (_P, _A, _D, _D, _D, _D),
    TermsVerdict.NON_COMMERCIAL: (_A, _A, _N, _N, _N, _N),
    TermsVerdict.NO_USE_BY_COMPETITORS: (_A, _C, _C, _C, _C, _D),
    TermsVerdict.FORBIDDEN: (_A, _D, _D, _D, _D, _D),
    TermsVerdict.UPSTREAM: (_A, _A, _A, _A, _A, _A),
    TermsVerdict.UNCLEAR: (_A, _A, _D, _D, _D, _D),
    TermsVerdict.UNKNOWN: (_A, _D, _D, _D, _D, _D),
}
TABLE: dict[TermsVerdict, dict[Use, Cell]] = {
    verdict: dict(zip(Use, rules, strict=True)) for verdict, rules in _ROWS.items()
}
