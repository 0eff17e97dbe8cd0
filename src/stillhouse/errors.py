"""The error tree. The docstring is the message, ``exit_code`` is the process's, ``next_step`` says what to do.

::

    StillhouseError                    1  failed
    |-- UsageError                     2  wrong use
    |   |-- RecipeError                   a recipe that cannot be read as meant
    |   |-- PromptsError                  a prompts or tasks file that cannot be read as meant
    |   |-- CorpusUnreadable              a file or a folder that holds nothing to import
    |   |-- UnknownName                   a teacher, dataset, plan ... that is not registered
    |   |-- NameTaken                     a name that already means something else
    |   |-- NothingToDrill                no snapshot that a restore could be tried with
    |   |-- TermsError                    an entry of the registry of terms that cannot be read as meant
    |   `-- RuleError                     a rule of the organisation that cannot be relied on
    |-- RefusedError                   3  refused by policy or custody
    |   |-- PolicyRefusal                 the decision table says no
    |   |-- TeacherContradiction          what was declared is not what was found
    |   |-- PlanRefused                   a plan that expired, was used, or no longer matches the facts
    |   |-- SignatureRefused              no key of the roster that may sign this
    |   |-- ApprovalMissing               others must approve this first
    |   |-- Held                          somebody said that it must stay
    |   |-- SourceErased                  its key was destroyed, on purpose
    |   |-- CustodianRefused              who alone may write the vault does not allow it
    |   |-- GuardUnavailable              what is under custody could not be kept from this command
    |   `-- SandboxUnavailable            no isolation on this machine that is good enough for untrusted code
    |-- IntegrityError                 4  integrity violated
    |   |-- CorruptLog                    a log entry that does not match its checksum or chain
    |   |-- CorruptObject                 an object that does not match its digest
    |   |-- CorruptCheckpoint             a training checkpoint that is not what was written
    |   `-- ForgedEntry                   an entry that is not signed by whom it names
    |-- BudgetReached                  5  the cap was reached; what was collected is a clean dataset
    |-- HomeError                      1  the home folder cannot be used
    |   |-- HomeMissing                   there is none
    |   |-- HomeNewer                     it was written by a newer Stillhouse
    |   |-- HomeBusy                      another run holds it
    |   |-- KeyMissing                    the key of a source that can be erased is in no key store
    |   `-- KeyUnusable                   its signing key cannot be used
    |-- OutOfMemory                    1  this process was given no more memory
    |-- EngineError                    1  the workers that rows are handed to do not do it
    |-- StorageError                   1  a file could not be read or written
    |   |-- CustodianAway                 who alone may write the vault does not answer
    |   |-- SourceChanging                a file that does not hold still while it is read
    |   `-- TargetExists                  something is already where a restore would write
    |-- LedgerUnavailable              1  the database refused
    |-- TeacherError                   1  the teacher failed
    |   |-- TeacherUnreachable            no connection, or a stalled one
    |   |-- TeacherRejected               it answered with an error that retrying will not cure
    |   |   `-- FieldRejected             it takes requests without some field
    |   `-- ModelUnusable                 a model folder that cannot be loaded
    |       `-- TemplateRefused           a chat template that raises for a conversation
    |-- TrainingError                  1  the student could not be trained
    |   |-- NothingToLearn                no record is left to learn from
    |   |-- LossNotFinite                 the loss became infinite or no number at all
    |   |-- TokenizersDiffer              a distribution over other tokens than the student's
    |   `-- CheckpointForeign             a checkpoint of another version, or of another training
    |-- MissingExtra                   1  an optional part is not installed
    `-- Interrupted                  130  Ctrl-C

Adding one: subclass the nearest parent, write the sentence a stranger reads as the docstring, set ``next_step`` to one
thing they can do, and add it to the drawing; a test compares the drawing with the code.
"""


class StillhouseError(Exception):
    """Something failed."""

    exit_code = 1
    next_step = "Run the command again with --debug and report what it prints."

    def __init__(self, detail: str = "", *, next_step: str = "") -> None:
        """``detail`` names the thing concerned; ``next_step`` replaces the class's advice where more is known."""
        super().__init__(detail)
        self.detail = detail
        if next_step:
            self.next_step = next_step

    def __str__(self) -> str:
        summary = (type(self).__doc__ or "").splitlines()[0]
        return f"{summary} {self.detail}".strip()


class UsageError(StillhouseError):
    """Invalid arguments."""

    exit_code = 2
    next_step = "Run it with --help to see what it takes."


class RecipeError(UsageError):
    """The recipe cannot be used."""

    next_step = "Correct the recipe; docs/recipes.md lists every key."


class PromptsError(UsageError):
    """The prompts file cannot be used."""

    next_step = "Correct the line named above; docs/recipes.md shows the format."


class CorpusUnreadable(UsageError):
    """There is nothing to import."""

    next_step = "docs/importing.md lists what is read."


class UnknownName(UsageError):
    """Not found."""

    next_step = "List what there is with the matching `list` command."


class NameTaken(UsageError):
    """That name already means something else."""

    next_step = "Choose another name, or repeat the registration exactly."


class NothingToDrill(UsageError):
    """There is no snapshot yet, so no restore can be tried."""

    next_step = "`stillhouse vault snapshot PATH` makes one."


class TermsError(UsageError):
    """The registry of terms cannot be used."""

    next_step = "Correct the entry named above; docs/policy.md lists the fields."


class RuleError(UsageError):
    """A rule of the organisation cannot be relied on, so nothing is decided."""

    next_step = "Correct policy.toml; docs/policy.md shows what a rule may hold."


class RefusedError(StillhouseError):
    """Refused."""

    exit_code = 3
    next_step = "`stillhouse policy explain` gives the rule and its source."


class PolicyRefusal(RefusedError):
    """Policy does not allow this."""


class TeacherContradiction(RefusedError):
    """The teacher is not what was declared."""

    next_step = "Register it again with the lab, channel and address that it really has."


class PlanRefused(RefusedError):
    """The plan may not be executed."""

    next_step = "Make a new plan; nothing was done under this one."


class SignatureRefused(RefusedError):
    """This may not be signed so."""

    next_step = "`stillhouse identity list` shows who may; STILLHOUSE_IDENTITY says as whom you act."


class ApprovalMissing(RefusedError):
    """Others must approve this first; nothing was done yet."""

    next_step = "`stillhouse plan approve PLAN` by others of the roster, then `stillhouse plan execute PLAN`."


class Held(RefusedError):
    """This is under hold, and stays."""

    next_step = (
        "`stillhouse vault release HOLD` asks that the hold end; a second person must agree, where there is one."
    )


class SourceErased(RefusedError):
    """That source was erased, and nothing brings it back."""

    next_step = "`stillhouse delete list` says when, and who agreed."


class CustodianRefused(RefusedError):
    """The custodian of this vault does not allow it."""

    next_step = "What is named stays. `stillhouse delete plan` proposes a deletion, which a second person approves."


class GuardUnavailable(RefusedError):
    """The command was not started: it could not be kept from what is under custody."""

    next_step = "docs/custody.md says what a guard needs."


class SandboxUnavailable(RefusedError):
    """This machine offers no isolation that is good enough to run untrusted code."""

    next_step = (
        "Run on Linux (x86-64) with user namespaces, or with Landlock (kernel 5.13 or newer); "
        "`stillhouse doctor` shows what is missing."
    )


class IntegrityError(StillhouseError):
    """Stored data is not what was written."""

    exit_code = 4
    next_step = "Run `stillhouse doctor`, and restore what it names from a copy."


class CorruptLog(IntegrityError):
    """A log entry does not match its checksum or its chain."""


class CorruptObject(IntegrityError):
    """An object does not match its digest."""


class CorruptCheckpoint(IntegrityError):
    """A training checkpoint is not what was written."""

    next_step = "Delete that checkpoint's folder and run the command again: it resumes from the one before it."


class ForgedEntry(IntegrityError):
    """An entry is not signed by whom it names."""

    next_step = "Run `stillhouse doctor`: it says whether the ledger or the log was changed, and by which entry."


class BudgetReached(StillhouseError):
    """The budget is reached; nothing more was asked."""

    exit_code = 5
    next_step = "What was collected is a complete dataset. Raise `budget` in the recipe and run it again to resume."


class HomeError(StillhouseError):
    """The home folder cannot be used."""

    next_step = "Name another with --home, or set STILLHOUSE_HOME."


class HomeMissing(HomeError):
    """There is no Stillhouse home here."""

    next_step = "Run `stillhouse init` first, or name the home with --home."


class HomeNewer(HomeError):
    """This home was written by a newer Stillhouse."""

    next_step = "Upgrade Stillhouse; this version has changed nothing in it."


class HomeBusy(HomeError):
    """Another run is at work on this."""

    next_step = "Wait for it to end, or stop it; then run the command again: it resumes where things stand."


class KeyMissing(HomeError):
    """The key of a source that can be erased is in none of the key stores, so it cannot be read."""

    next_step = "Restore a key store: [custody] key_stores in config.toml says where they are."


class KeyUnusable(HomeError):
    """A signing key cannot be used."""

    next_step = "Restore the key from your backup (keys/home.key is the home's); a new key would be an unknown signer."


class StorageError(StillhouseError):
    """A file could not be read or written."""

    next_step = "Free space or correct permissions, then run the command again: it resumes where it stopped."


class OutOfMemory(StillhouseError):
    """This process was given no more memory."""

    next_step = "Free some, or raise its limit (`ulimit -v`), then run the command again: it resumes where it stopped."


class EngineError(StillhouseError):
    """The workers that rows are handed to do not do it."""

    next_step = 'Run the command again, or set kind = "local" in [engine] of config.toml.'


class CustodianAway(StorageError):
    """The custodian of this vault does not answer."""

    next_step = "Start it (`stillhouse vault custodian FOLDER`, or its service), then run the command again."


class SourceChanging(StorageError):
    """A file changed every time that it was read."""

    next_step = "Stop what writes to it, or snapshot a copy of it, then run the command again; nothing is stored twice."


class TargetExists(StorageError):
    """Something is there already, and nothing was changed."""

    next_step = "Name a folder that does not exist, or say --overwrite."


class LedgerUnavailable(StillhouseError):
    """The ledger's database cannot be reached or used."""

    next_step = "Start the database or correct STILLHOUSE_LEDGER_URL, then run the command again."


class TeacherError(StillhouseError):
    """The teacher could not answer."""

    next_step = "Run the command again later: answers that were received are kept and not asked for again."


class TeacherUnreachable(TeacherError):
    """The teacher cannot be reached."""


class TeacherRejected(TeacherError):
    """The teacher refused the request."""

    next_step = "Correct what its message names (model, key, prompt), then run the command again."


class FieldRejected(TeacherRejected):
    """The teacher refused a field of the request."""

    next_step = "`stillhouse teacher probe NAME` finds out which fields its server takes, and writes them down."

    def __init__(self, detail: str = "", *, field: str = "", next_step: str = "") -> None:
        """``field`` is the one that it named."""
        super().__init__(detail, next_step=next_step)
        self.field = field


class ModelUnusable(TeacherError):
    """The model cannot be loaded."""

    next_step = "Point --weights at a folder with config, tokenizer and safetensors, or at a .gguf file."


class TemplateRefused(ModelUnusable):
    """The model's chat template refuses a conversation."""

    next_step = "Leave the roles out that its message names, or use a model whose template takes them."


class TrainingError(StillhouseError):
    """The student could not be trained."""

    next_step = "Correct what it names, then run the command again."


class NothingToLearn(TrainingError):
    """There is nothing to learn from."""

    next_step = "`stillhouse dataset show` says why records were dropped; ask for more samples or other tasks."


class LossNotFinite(TrainingError):
    """The loss is not a finite number any more."""

    next_step = "Lower [train] learning_rate; the checkpoints before this step are kept."


class TokenizersDiffer(TrainingError):
    """Teacher and student cut text into different tokens, so their distributions cannot be compared."""

    next_step = 'Use a teacher with the same tokenizer, or [train] signal = "text".'


class CheckpointForeign(TrainingError):
    """This checkpoint was not made by this training in this version."""

    next_step = "Finish with the version that made it, or delete the folder that it names to start this training again."


class MissingExtra(StillhouseError):
    """An optional part of Stillhouse is not installed."""

    next_step = "Install it with pip."


class Interrupted(StillhouseError):
    """Interrupted."""

    exit_code = 130
    next_step = "Run the command again: it resumes where it stopped, and asks again for nothing that it has."
