"""The training loop: flat, for one process or several, killed and resumed anywhere with the same loss curve.

What feeds which step is decided before the first one (``documents.plan_steps``); a step draws its random numbers from the seed
and its own number; so a checkpoint needs the weights, the optimizer's state and the number of the last step, and no more.
Several processes (``worker``) share out the packs of a step and shard weights, gradients and optimizer state (FSDP2).
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import broadcast_object_list
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from stillhouse.canon import digest_plain, digest_value, short_integer
from stillhouse.errors import (
    CheckpointForeign,
    LossNotFinite,
    ModelUnusable,
    NothingToLearn,
    StorageError,
    TrainingError,
)
from stillhouse.generation.load_model import LoadedModel
from stillhouse.nouns import Method, Signal
from stillhouse.students import training_checkpoints
from stillhouse.students.attention import layout, why_not_apart
from stillhouse.students.documents import (
    Document,
    DocumentPack,
    Language,
    LeftOutRecords,
    Record,
    Step,
    documents,
    in_order,
    plan_steps,
    take_answer_tokens,
)
from stillhouse.students.optimizer import MasterAdam, learning_rate_at
from stillhouse.students.signals import SignalRow, check_same_tokenizer, make_signal
from stillhouse.students.student import (
    beside_no_adapter,
    language_of,
    load_as_registered,
    load_student,
    make_trainable,
)
from stillhouse.students.token_file import read_tokens, write_tokens

if TYPE_CHECKING:
    from torch import Tensor

# A kill loses at most so much work, unless writing a checkpoint takes more than a twentieth of it.
CHECKPOINT_SECONDS, CHECKPOINT_SHARE = 10.0, 0.05
# Weights that adapters do not reach are reported from this share on: a norm or a bias does not matter.
SAID_ABOVE = 0.01
# The customary bound of a gradient's norm: one odd record must not undo the others.
LARGEST_GRADIENT = 1.0
# Whole tensors, whoever holds which part of them: a checkpoint of two processes can be resumed by one, or by four.
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a training depends on. ``training`` is its identity, which stands for the rows, too; ``folder`` is where
    its checkpoints are, and its tokens, where they may be written (``keeps_tokens``).

    ``logged`` is the last step up to which the log has every one: a checkpoint beyond it would leave a gap in the log.
    """

    training: str
    folder: str
    cache: str
    weights: str
    weights_digest: str
    teacher_weights: str
    teacher_digest: str
    dtype: str
    keeps_tokens: bool
    method: Method
    rank: int
    learning_rate: float
    epochs: int
    seed: int
    signal: Signal
    layers: int
    gradient_checkpointing: bool
    processes: int
    answer_tokens: int = 0
    logged: int = 0
    chat_template: str = ""


class Note(msgspec.Struct, frozen=True, tag="said"):
    """Something that takes long begins, or is worth knowing."""

    message: str


class Resumed(msgspec.Struct, frozen=True, tag="resumed"):
    """The training resumes after this step."""

    step: int


class StepDone(msgspec.Struct, frozen=True, tag="step"):
    """A step was taken. ``loss`` is the mean over its answer tokens, before the update."""

    step: int
    records: tuple[str, ...]
    tokens: int
    answer_tokens: int
    loss: float
    learning_rate: float
    seconds: float


class Saved(msgspec.Struct, frozen=True, tag="saved"):
    """The training can resume from here."""

    step: int


Event = Note | Resumed | StepDone | Saved
EventSink = Callable[[Event], None]


class Ready:
    """A student in memory, and the plan of its steps."""

    def __init__(
        self, loaded: LoadedModel, found: list[Document], left_out: list[LeftOutRecords], steps: list[Step], alone: str
    ) -> None:
        """``alone`` says why each document must be a pack of its own, and is empty where it need not be."""
        self.loaded, self.documents, self.left_out, self.steps, self.alone = loaded, found, left_out, steps, alone

    @property
    def together(self) -> bool:
        """Can documents share a row?"""
        return not self.alone

    @property
    def plan(self) -> str:
        """Identifies what the steps are made of: a checkpoint counts only for the same."""
        packs = [[[[d.key, len(d.tokens)] for d in pack.documents] for pack in step.packs] for step in self.steps]
        return digest_plain(packs)


def make_ready(job: Job, records: Callable[[], Iterable[Record]]) -> Ready:
    """Load the student and decide its steps; the ``records`` are read where their tokens are not there yet.

    Raises ModelUnusable, NothingToLearn, StorageError.
    """
    loaded = load_student(
        Path(job.weights), job.weights_digest, Path(job.cache), job.dtype, job.layers, chat_template=job.chat_template
    )
    found, left_out = _documents(job, records, language_of(loaded))
    if not found:
        why = f": {left_out[0].reason}" if left_out else ""
        raise NothingToLearn(f"None of the {len(left_out)} records can be learned from{why}.")
    if job.answer_tokens:
        found, beyond = take_answer_tokens(found, job.answer_tokens, job.seed)
        left_out += beyond
    alone = why_not_apart(loaded.model, probe_of(found[0]))
    steps = plan_steps(found, epochs=job.epochs, seed=job.seed, together=not alone)
    return Ready(loaded, found, left_out, steps, alone)


def _documents(
    job: Job, records: Callable[[], Iterable[Record]], language: Language
) -> tuple[list[Document], list[LeftOutRecords]]:
    if not job.keeps_tokens:
        found, left_out = documents(records(), language)
        return in_order(found), left_out
    folder = Path(job.folder)
    known = read_tokens(folder, job.training)
    if known is None:
        write_tokens(folder, job.training, records(), language)
        known = read_tokens(folder, job.training)
    if known is None:
        raise StorageError(f"The tokens in {folder} are not what was just written.", next_step="Look at the disk.")
    return known


def probe_of(document: Document) -> list[int]:
    """A few tokens to try a model with."""
    return (list(document.tokens) * 2)[:64]


def train(job: Job, ready: Ready, emit: EventSink) -> None:
    """Take every step that is still to take; at the end, the newest checkpoint is that of the last step.

    Raises LossNotFinite, TokenizersDiffer, CorruptCheckpoint, CheckpointForeign, StorageError.
    """
    accelerator = make_accelerator(job.processes)
    device, world, rank = accelerator.device, accelerator.num_processes, accelerator.process_index
    torch.manual_seed(job.seed)  # adapters are drawn when the model is made
    signal = make_signal(job.signal, _load_teacher(job, ready, device))
    model = make_trainable(ready.loaded, job.method, job.rank, checkpointing=job.gradient_checkpointing)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model, optimizer = accelerator.prepare(model.train(), MasterAdam(trainable, job.learning_rate))
    emit = emit if accelerator.is_main_process else _discard
    masters: MasterAdam = optimizer.optimizer
    done = _resume(job, ready, model, masters)
    if done:
        emit(Resumed(done))
    for line in _notes(job, ready):
        emit(Note(line))
    last_saved, cost = time.monotonic(), 0.0
    for step in ready.steps[done:]:
        started = time.monotonic()
        # Seeded by the step, not by what came before: a resumed training draws the same dropout.
        torch.manual_seed(short_integer(digest_value([job.seed, step.number, rank])))
        rate = learning_rate_at(step.number, len(ready.steps), job.learning_rate)
        total = torch.zeros((), device=device)
        for pack, weight in share(step.packs, world, rank):
            row = make_row(pack, device, together=ready.together)
            with _refused_by_name(ready, row):
                losses = signal.loss(row, row.logits(model)) * weight
            # The mean over the answer tokens of the whole step; FSDP averages over processes, hence times ``world``.
            accelerator.backward(losses.sum() * world / step.answer_tokens)
            masters.gather()
            total += losses.detach().sum()
        loss = float(accelerator.reduce(total, "sum")) / step.answer_tokens
        norm = masters.clip(LARGEST_GRADIENT)
        if not (math.isfinite(loss) and math.isfinite(norm)):  # before the update: the weights are still good
            raise LossNotFinite(f"(step {step.number} of {len(ready.steps)}: loss {loss}, gradient {norm})")
        for group in masters.param_groups:
            group["lr"] = rate
        masters.step()
        seconds = time.monotonic() - started
        emit(StepDone(step.number, step.records, step.tokens, step.answer_tokens, loss, rate, seconds))
        waited = time.monotonic() - last_saved
        due = waited > max(CHECKPOINT_SECONDS, cost / CHECKPOINT_SHARE) or step is ready.steps[-1]
        if broadcast_object_list([due])[0]:  # clocks of processes differ, and all of them must take part in a save
            last_saved = time.monotonic()
            _save(job, ready, step.number, model, masters, accelerator)
            emit(Saved(step.number))
            cost = time.monotonic() - last_saved
            last_saved += cost  # the time that saving took does not count as time at risk


@contextlib.contextmanager
def _refused_by_name(ready: Ready, row: SignalRow) -> Iterator[None]:
    """What an architecture will not compute when it is trained is said of it, not of this program."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.distributed.DistError):
        raise
    except (AssertionError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as failure:
        said = (str(failure).strip().splitlines() or [type(failure).__name__])[0]
        name = type(ready.loaded.model).__name__
        raise ModelUnusable(f"A {name} cannot be trained on a row of {row.ids.shape[1]} tokens ({said}).") from failure


def _notes(job: Job, ready: Ready) -> list[str]:
    """What whoever trains this should know of it before its first step."""
    notes = []
    if ready.loaded.folds:
        notes.append("its template has no system role: the system text stands at the head of the first user turn")
    if job.method is Method.LORA:
        missed = beside_no_adapter(ready.loaded.model)
        every = sum(parameter.numel() for parameter in ready.loaded.model.parameters())
        if sum(missed.values()) > SAID_ABOVE * every:
            parts = ", ".join(f"{count / every:.0%} in {name}" for name, count in missed.items())
            notes.append(
                f"adapters do not reach {sum(missed.values()) / every:.0%} of the weights ({parts}): full does"
            )
    return notes


def _discard(event: Event) -> None:
    """The first process speaks for all."""


def make_accelerator(processes: int) -> Accelerator:
    """One process alone, or its part of several: each holds a shard of every layer and gathers it when it is needed."""
    cpu = not torch.cuda.is_available()
    if processes == 1:
        return Accelerator(cpu=cpu)
    sharded = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        reshard_after_forward=True,
        cpu_ram_efficient_loading=False,
    )
    return Accelerator(cpu=cpu, fsdp_plugin=sharded)


def share(packs: Sequence[DocumentPack], world: int, rank: int) -> list[tuple[DocumentPack, float]]:
    """A process's packs of a step. All get equally many, since they compute in step: what is too few is made up by packs of
    weight 0.
    """
    rounds = -(-len(packs) // world)  # rounded up
    places = [turn * world + rank for turn in range(rounds)]
    return [(packs[place], 1.0) if place < len(packs) else (packs[0], 0.0) for place in places]


def make_row(pack: DocumentPack, device: "torch.device | str", *, together: bool) -> SignalRow:
    """A pack as tensors."""
    ids: list[int] = []
    keep: list[int] = []
    labels: list[int] = []
    start = 0
    for document in pack.documents:
        ids += document.tokens
        # The token at a place is predicted from the place before it.
        keep += range(start + document.answer - 1, start + len(document.tokens) - 1)
        labels += document.tokens[document.answer :]
        start += len(document.tokens)
    lengths = [len(document.tokens) for document in pack.documents]
    row = (torch.tensor([ids], device=device), torch.tensor(keep, device=device), torch.tensor(labels, device=device))
    return SignalRow(*row, layout(lengths, device), together=together)


def _load_teacher(job: Job, ready: Ready, device: torch.device) -> Any:
    """The teacher whose distribution is learned, whole in every process; None where text is."""
    if job.signal is Signal.TEXT:
        return None
    teacher = load_as_registered(Path(job.teacher_weights), job.teacher_digest, Path(job.cache), job.dtype)
    check_same_tokenizer(teacher, ready.loaded)
    alone = why_not_apart(teacher.model, probe_of(ready.documents[0])) if ready.together else ""
    if alone:
        raise TrainingError(f"The teacher's distribution cannot be had beside this student's: {alone}.")
    return teacher.model.to(device).eval().requires_grad_(False)


def _resume(job: Job, ready: Ready, model: Any, optimizer: torch.optim.Optimizer) -> int:
    """Take up the newest checkpoint; returns its step, or 0. Raises CorruptCheckpoint, CheckpointForeign."""
    found = training_checkpoints.newest(Path(job.folder), job.logged)
    if found is None:
        return 0
    if (found.state.training, found.state.plan) != (job.training, ready.plan):
        raise CheckpointForeign(f"({job.folder})")
    # Written flat, as "parameter/part"; torch wants it nested by parameter.
    state: dict[str, dict[str, Tensor]] = {}
    for name, tensor in found.optimizer.items():
        parameter, _, part = name.rpartition("/")
        state.setdefault(parameter, {})[part] = tensor
    whole: Any = {"state": state, "param_groups": [{"lr": job.learning_rate, "params": list(state)}]}
    set_state_dict(model, optimizer, model_state_dict=found.parameters, optim_state_dict=whole, options=_WHOLE)
    return found.state.step


def _save(
    job: Job, ready: Ready, step: int, model: Any, optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> None:
    parameters: Any
    state: Any
    parameters, state = get_state_dict(model, optimizer, options=_WHOLE)
    if accelerator.is_main_process:
        tensors = {
            f"{parameter}/{part}": tensor
            for parameter, parts in state["state"].items()
            for part, tensor in parts.items()
        }
        training_checkpoints.write(
            Path(job.folder),
            training=job.training,
            plan=ready.plan,
            step=step,
            parameters=parameters,
            optimizer=tensors,
        )
    accelerator.wait_for_everyone()
