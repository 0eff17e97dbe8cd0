"""Every table and column, once.

All rows of all tables are keyed by the place of the log entry they come from (``writer``, ``number``) and their place
within it, so applying an entry twice changes nothing, in any order, by any number of processes.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()


def _table(name: str, *columns: Column[Any]) -> Table:
    return Table(
        name,
        metadata,
        Column("writer", String(8), primary_key=True),
        Column("number", BigInteger, primary_key=True, autoincrement=False),
        Column("place", Integer, primary_key=True, autoincrement=False),
        Column("at", String(32), nullable=False),
        *columns,
    )


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _indexed(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, index=True)


def _whole(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _stamp_set(name: str, *, index: bool = False) -> Column[int]:
    """The id of a stamp set: all 64 bits of it count, so it is no number that could be bounded."""
    return Column(name, BigInteger, nullable=False, index=index, info={"identity": True})


def _real(name: str) -> Column[float]:
    return Column(name, Float(53), nullable=False)


def _lease() -> Column[str]:
    return Column("lease", Text, nullable=False, index=True, server_default="")


cursors = Table(
    "cursors",
    metadata,
    Column("writer", String(8), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("chain", String(64), nullable=False),
)
# Entries whose rows this database refused: kept in the log, counted here, and in no other table.
unviewed = _table("unviewed", _text("kind"), _text("reason"))
teachers = _table("teachers", _indexed("name"), _text("registered_by"), _text("teacher"))
stamp_sets = _table("stamp_sets", _stamp_set("id", index=True), _text("digest"), _text("stamps"))
prompts = _table("prompts", _indexed("prompt"), _text("messages"))
plans = _table("plans", _indexed("digest"), _text("kind"), _text("subject"), _text("plan"), _text("made_by"))
receipts = _table(
    "receipts",
    _indexed("plan"),
    _text("outcome"),
    _text("result"),
    Column("signature", Text, nullable=False, server_default=""),
)
leases = _table("leases", _indexed("lease"), _indexed("scope"), _text("holder"), _text("usd"))
lease_returns = _table("lease_returns", _indexed("lease"), _text("used_usd"))
asked = _table("asked", _indexed("key"), _text("run"), _indexed("teacher"), _text("worst_case_usd"), _lease())
batches = _table(
    "batches", _indexed("batch"), _indexed("run"), _indexed("teacher"), _stamp_set("stamps"), _text("calls")
)
submissions = _table("submissions", _indexed("batch"), _text("remote"))
batch_ends = _table("batch_ends", _indexed("batch"), _text("reason"))
answers = _table(
    "answers",
    _indexed("key"),
    _text("run"),
    _text("teacher"),
    _text("task"),
    _text("prompt"),
    _whole("sample"),
    _stamp_set("stamps"),
    _text("text"),
    _text("finish"),
    _whole("prompt_tokens"),
    _whole("completion_tokens"),
    _text("cost_usd"),
    _real("seconds"),
    _lease(),
)
failures = _table(
    "failures",
    _indexed("key"),
    _text("run"),
    _text("teacher"),
    _text("reason"),
    _whole("status"),
    _whole("charged"),
    _lease(),
)
gateway_keys = _table("gateway_keys", _indexed("key"), _text("issued"))
key_revocations = _table("key_revocations", _indexed("key"), _text("reason"))
calls = _table(
    "calls",
    _indexed("call"),
    _indexed("key"),
    _text("teacher"),
    _text("path"),
    _text("purpose"),
    _stamp_set("stamps"),
    _indexed("idempotency"),
    _text("request"),
)
returns = _table(
    "returns",
    _indexed("call"),
    _whole("status"),
    _text("outcome"),
    _text("reason"),
    _text("kind"),
    _whole("redacted"),
    _text("body"),
)
imports = _table("imports", _indexed("run"), _text("source"), _text("digest"), _text("shape"), _whole("rows"))
verdicts = _table(
    "verdicts",
    _indexed("key"),
    _text("run"),
    _text("task"),
    _text("judge"),
    _text("status"),
    _text("reason"),
    _text("check_failed"),
    _text("trust"),
    _text("isolation"),
    _whole("checks"),
    _whole("checks_passed"),
    _real("cpu_seconds"),
)
datasets = _table("datasets", _indexed("name"), _whole("version"), _text("run"), _text("dataset"))
placements = _table(
    "placements", _indexed("dataset"), _indexed("key"), _stamp_set("stamps"), _text("step"), _text("reason")
)
edges = _table("edges", _indexed("parent"), _indexed("child"), _text("kind"))
steps = _table(
    "steps",
    _indexed("training"),
    _whole("step"),
    _whole("tokens"),
    _whole("answer_tokens"),
    _real("loss"),
    _real("learning_rate"),
    _real("seconds"),
    Column("shares", Text, nullable=False, server_default=""),
)
fed = _table("fed", _indexed("training"), _whole("step"), _indexed("key"))
models = _table(
    "models", _indexed("name"), _whole("version"), _indexed("weights_digest"), _indexed("training"), _text("model")
)
evaluations = _table("evaluations", _indexed("subject"), _text("suite"), _text("evaluation"))
passports = _table("passports", _indexed("model"), _text("digest"), _text("signer"))
approvals = _table("approvals", _indexed("plan"), _text("signature"))
rosters = _table(
    "rosters",
    _whole("version"),
    _text("roster"),
    _text("change"),
    _text("plan"),
    _text("previous"),
    _text("signatures"),
)
access_changes = _table(
    "access_changes", _indexed("change"), _text("content"), _text("plan"), _text("previous"), _text("signatures")
)
waivers = _table("waivers", _indexed("waiver"), _text("content"), _text("plan"), _text("previous"), _text("signatures"))
exports = _table("exports", _indexed("dataset"), _indexed("digest"), _text("name"), _whole("rows"))
gates = _table(
    "gates", _text("subjects"), _text("use"), _whole("allowed"), _text("reasons"), _text("job"), _text("signature")
)
runs = _table(
    "runs", _indexed("run"), _text("recipe"), _text("inputs"), _text("code"), _text("environment"), _text("machine")
)
snapshots = _table(
    "snapshots",
    _indexed("snapshot"),
    _indexed("name"),
    _text("source"),
    _text("subject"),
    _whole("files"),
    _whole("bytes"),
    _whole("added"),
    _text("erasable"),
)
registrations = _table(
    "registrations",
    _indexed("manifest"),
    _indexed("name"),
    _text("source"),
    _text("endpoint"),
    _whole("files"),
    _whole("bytes"),
)
examinations = _table(
    "examinations",
    _indexed("manifest"),
    _whole("files"),
    _whole("read"),
    _whole("changes"),
    _whole("new"),
    _text("examples"),
)
copies = _table(
    "copies",
    _indexed("copy"),
    _text("store"),
    _text("domain"),
    _whole("objects"),
    _whole("added"),
    _whole("bytes"),
    _whole("entries"),
    Column("sampled", BigInteger, nullable=False, server_default="0"),
    Column("heads", Text, nullable=False, server_default="{}"),
)
scrubs = _table("scrubs", _indexed("copy"), _whole("objects"), _whole("read"), _text("bad"), _text("repaired"))
drills = _table(
    "drills",
    _indexed("copy"),
    _text("subject"),
    _whole("whole"),
    _whole("files"),
    _whole("bytes"),
    _real("seconds"),
    _real("behind"),
    _text("problem"),
    _text("signature"),
)
holds = _table("holds", _indexed("hold"), _text("subject"), _text("reason"))
hold_releases = _table(
    "hold_releases", _indexed("hold"), _text("content"), _text("plan"), _text("previous"), _text("signatures")
)
deletions = _table(
    "deletions", _indexed("deletion"), _text("content"), _text("plan"), _text("previous"), _text("signatures")
)
erasure_keys = _table("erasure_keys", _indexed("source"), _text("key"), _text("destroyed"))
erasures = _table(
    "erasures", _indexed("source"), _text("content"), _text("plan"), _text("previous"), _text("signatures")
)
deletions_undone = _table("deletions_undone", _indexed("deletion"))
trash = _table("trash", _indexed("object"), _text("what"), _text("reason"))
days = _table("days", _indexed("day"))
refusals = _table("refusals", _text("subject"), _text("reason"))
tails = _table("tails", _text("torn_writer"), _whole("entry"), _whole("bytes"), _text("kept_in"))

Index("asked_by_run", asked.c.run)
# All that is asked of ten million records when a source is revoked: which stamps, which record, how many tokens.
Index(
    "answers_by_stamps",
    answers.c.stamps,
    answers.c.run,
    answers.c.key,
    answers.c.prompt_tokens,
    answers.c.completion_tokens,
)
# And which records a run has: all that an impact asks of them.
Index("answers_by_run", answers.c.run, answers.c.teacher, answers.c.key)
