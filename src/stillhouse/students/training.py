"""From a dataset to a model in the log: policy at the door, a plan, the steps, the weights, the facts.

Where a kill can fall, and what is then true: before the last step, training resumes from the newest checkpoint; after it, the
weights are written again from it; once the folder is in its place, the model's facts are written, and until they are it is no
model. A training that is in the log is not done again.
"""

import gc
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from stillhouse.canon import digest_file, digest_value
from stillhouse.clock import now
from stillhouse.errors import NothingToLearn, PolicyRefusal, TrainingError
from stillhouse.generation import measured
from stillhouse.generation.weights import weights_digest
from stillhouse.home import facts
from stillhouse.home.doors import Doors
from stillhouse.home.ledger import origin_queries, training_queries
from stillhouse.home.model_files import Places, as_teacher, check_files, files_below
from stillhouse.home.plans.planning import executing, make_plan
from stillhouse.home.recorder import Recorder
from stillhouse.home.stamping import stamps_of
from stillhouse.nouns import DatasetVersion, Decision, Method, Model, Plan, Signal, StampSet, Teacher, Use
from stillhouse.permission.decide import Door, join
from stillhouse.permission.stamp_sets import stamp_set
from stillhouse.students import training_checkpoints
from stillhouse.students.documents import Record, Step
from stillhouse.students.student import load_student, save_model, trained_model
from stillhouse.students.training_loop import Event, EventSink, Job, Note, Ready, StepDone, make_ready, train
from stillhouse.students.training_worker import train_in_processes

# Adapters start at zero and may move fast; whole weights start as a working model and may not.
LEARNING_RATES = {Method.LORA: 5e-4, Method.FULL: 3e-5}
# Raise this where the loop changes what a training gives: a checkpoint of another loop is another training's.
_LOOP = 1


class TrainingOptions(NamedTuple):
    """What a recipe says about training. ``learning_rate`` 0 is the method's own, ``layers`` 0 all of them.

    ``answer_tokens`` above 0 learns from so many only, of records drawn by the seed: to compare two datasets at equal size.
    ``chat_template`` is the text of one to use instead of the student's own.
    """

    name: str
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
    chat_template: str = ""


class PreparedTraining(NamedTuple):
    """A training, decided upon: nothing is done yet. ``model`` is there where the log already has what comes of it."""

    plan: Plan
    facts_digest: str
    job: Job
    ready: Ready | None
    student: Teacher
    teacher: Teacher | None
    dataset: DatasetVersion
    stamps: StampSet
    options: TrainingOptions
    model: Model | None


def prepare_training(
    doors: Doors,
    places: Places,
    student: Teacher,
    teacher: Teacher | None,
    dataset: DatasetVersion,
    records: Callable[[], Iterable[Record]],
    contents: str,
    options: TrainingOptions,
) -> PreparedTraining:
    """Ask policy, read the student, and decide every step. ``teacher`` is the one whose distribution is to be learned;
    ``records`` reads the rows, and ``contents`` stands for all that they say.

    Raises PolicyRefusal, NothingToLearn, ModelUnusable, TrainingError.
    """
    if not dataset.rows:
        raise NothingToLearn(f"{dataset.label} has no row.")
    recorder = doors.recorder
    decisions, stamps = _at_the_door(doors, student, teacher, dataset)
    job = make_job(places, student, teacher, dataset, contents, options)
    job = msgspec.structs.replace(job, logged=_contiguous(training_queries.steps(recorder.ledger, job.training)))
    known = training_queries.model_of_training(recorder.ledger, job.training)
    ready = None if known is not None and (places.home / known.folder).exists() else make_ready(job, records)
    does = {
        "student": student.name,
        "dataset": dataset.label,
        "method": str(options.method) + (f" of rank {options.rank}" if options.method is Method.LORA else ""),
        "learns": str(options.signal) + (f" of {teacher.name}" if teacher else ""),
        "records": dataset.rows,
        "epochs": options.epochs,
    }
    if ready is not None:
        does["records left out"] = len(ready.left_out)
        does["steps"] = len(ready.steps)
        does["tokens"] = sum(step.tokens for step in ready.steps)
    facts_digest = digest_value([job.training, dataset.manifest_digest, student.weights_digest, stamps.digest])
    plan = make_plan("train", options.name, does, decisions, Decimal(0), facts_digest)
    return PreparedTraining(plan, facts_digest, job, ready, student, teacher, dataset, stamps, options, known)


def make_job(
    places: Places,
    student: Teacher,
    teacher: Teacher | None,
    dataset: DatasetVersion,
    contents: str,
    options: TrainingOptions,
) -> Job:
    """The job, and the name of the training: the same for everything that would give the same model."""
    rate = options.learning_rate or LEARNING_RATES[options.method]
    settings = {**options._asdict(), "learning_rate": rate, "processes": 0}
    if not options.chat_template:  # trainings from before there was such an option keep their names
        del settings["chat_template"]
    identity = [
        _LOOP,
        student.weights_digest,
        teacher.weights_digest if teacher else "",
        dataset.label,
        dataset.manifest_digest,
        contents,
        settings,
    ]
    training = digest_value(identity).partition(":")[2][:12]
    return Job(
        training=training,
        folder=str(places.trainings / training),
        cache=str(places.cache),
        weights=student.weights,
        weights_digest=student.weights_digest,
        teacher_weights=teacher.weights if teacher else "",
        teacher_digest=teacher.weights_digest if teacher else "",
        dtype=measured.training_dtype(),
        keeps_tokens=not dataset.erasable,  # they are text that a key could not erase
        method=options.method,
        rank=options.rank,
        learning_rate=rate,
        epochs=options.epochs,
        seed=options.seed,
        signal=options.signal,
        layers=options.layers,
        gradient_checkpointing=options.gradient_checkpointing,
        processes=options.processes,
        answer_tokens=options.answer_tokens,
        chat_template=options.chat_template,
    )


def carry_out(recorder: Recorder, places: Places, prepared: PreparedTraining, emit: EventSink) -> Model:
    """Train, or take what the log has of it; a model whose folder is gone is made again, and must come to the same weights.

    Raises what ``train`` raises, CorruptObject, StorageError.
    """
    if prepared.model is not None and prepared.ready is None:
        check_files(places, prepared.model)
        teacher = as_teacher(places, prepared.model)
        if teacher != origin_queries.teacher(recorder.ledger, teacher.name):  # the home has moved
            recorder.record(facts.TeacherRegistered(at=now(), by=recorder.by, teacher=teacher))
            recorder.refresh()
        return prepared.model
    job, ready = prepared.job, prepared.ready
    assert ready is not None
    losses = {step.step: step.loss for step in training_queries.steps(recorder.ledger, job.training)}

    def listen(event: Event) -> None:
        if isinstance(event, StepDone):
            shares = _shares(ready.steps[event.step - 1])
            _record_step(recorder, job.training, event, shares, losses.get(event.step), emit)
        emit(event)

    with executing(recorder, prepared.plan, prepared.facts_digest) as result:
        if job.processes > 1:
            ready.loaded.model = None  # the workers load their own
            train_in_processes(job, listen)
        else:
            train(job, ready, listen)
        model = _finish(recorder, places, prepared, ready)
        result.update({"model": model.label, "weights_digest": model.weights_digest, "loss": model.loss})
    return model


def _at_the_door(
    doors: Doors, student: Teacher, teacher: Teacher | None, dataset: DatasetVersion
) -> tuple[list[Decision], StampSet]:
    """May this be trained? Returns the decisions, and the stamps that the model will carry. Raises PolicyRefusal."""
    recorder = doors.recorder
    sets = origin_queries.stamp_sets(recorder.ledger)
    found = doors.policy.check_rows(dataset.stamp_sets, sets, Use.TRAIN)
    if found.denied:
        reasons = "; ".join(found.denials)
        subject = f"{found.denied} of {dataset.rows} rows of {dataset.label}"
        recorder.record(facts.RefusalMade(at=now(), by=recorder.by, subject=subject, reason=f"train: {reasons}"))
        recorder.refresh()
        raise PolicyRefusal(
            f"{subject} may not be used to train: {reasons}.",
            next_step=f"`stillhouse policy check {dataset.label} --use train` counts them by reason; a recipe with "
            '[dataset] use = "train" makes a version without them.',
        )
    members = [stamp for id in dataset.stamp_sets for stamp in sets[int(id)].stamps]
    decisions = [join(Use.TRAIN, [decision for _, decision in found.decided])]
    for source in (student, *((teacher,) if teacher else ())):
        stamps = stamps_of(recorder.ledger, source, purpose=Use.TRAIN)
        decisions.append(doors.check(Door.USE, f"model {source.name}", stamps, Use.TRAIN))
        members += stamps
    return decisions, stamp_set(members)


def _shares(step: Step) -> dict[str, int]:
    """A step's answer tokens by stamp set."""
    counted: Counter[str] = Counter()
    for pack in step.packs:
        for document in pack.documents:
            counted[str(document.stamps)] += document.answer_tokens
    return dict(sorted(counted.items()))


def _record_step(
    recorder: Recorder, training: str, step: StepDone, shares: dict[str, int], before: float | None, emit: EventSink
) -> None:
    """A step goes into the log once. Taken again after a kill it should go as it went; where it does not, that is said."""
    if before is None:
        taken = msgspec.structs.asdict(step)
        entry = facts.StepTaken(at=now(), by=recorder.by, training=training, shares=shares, **taken)
        recorder.record(entry)
    elif before != step.loss:
        emit(
            Note(
                f"step {step.step} gave the loss {before:.6f} before and {step.loss:.6f} now: another machine or software"
            )
        )


def _finish(recorder: Recorder, places: Places, prepared: PreparedTraining, ready: Ready) -> Model:
    """Write the weights from the last checkpoint, then the facts."""
    job, options, dataset = prepared.job, prepared.options, prepared.dataset
    last = training_checkpoints.newest(Path(job.folder), len(ready.steps))
    recorder.refresh()
    taken = training_queries.steps(recorder.ledger, job.training)
    if last is None or last.state.step != len(ready.steps) or _contiguous(taken) != len(ready.steps):
        raise TrainingError(
            "Its last checkpoint, or a step in the log, is missing.", next_step="Run the command again."
        )
    ready.loaded.model = None
    gc.collect()
    # Half of a bf16 number's last place swallows most of what an adapter adds: merged, and kept, in float32.
    merged = prepared.model.method.get("merged", job.dtype) if prepared.model else "float32"
    dtype = str(merged) if job.method is Method.LORA else job.dtype
    loaded = load_student(
        Path(job.weights), job.weights_digest, places.cache, dtype, job.layers, chat_template=job.chat_template
    )
    loaded = trained_model(loaded, job.method, job.rank, last.parameters)
    named = [known.version for known in training_queries.models(recorder.ledger) if known.name == options.name]
    version = prepared.model.version if prepared.model else 1 + max(named, default=0)
    folder = places.models / f"{options.name}-{version}"
    shutil.rmtree(folder, ignore_errors=True)  # of a kill between the rename and the facts
    save_model(loaded, folder)
    files = {name: digest_file(folder / name) for name in files_below(folder)}
    if prepared.model is not None:
        return _made_again(prepared.model, folder, files)
    model = Model(
        name=options.name,
        version=version,
        weights_digest=weights_digest(folder),
        files=files,
        folder=str(folder.relative_to(places.home)),
        base=prepared.student.name,
        base_digest=prepared.student.weights_digest,
        dataset=dataset.label,
        dataset_digest=dataset.manifest_digest,
        training=job.training,
        method={
            **_method(job),
            "dtype": job.dtype,
            "merged": dtype,
            "teacher": prepared.teacher.name if prepared.teacher else "",
        },
        stamps=prepared.stamps.id,
        rows=len(ready.documents),
        left_out=_count(left.reason for left in ready.left_out),
        steps=len(ready.steps),
        tokens=sum(step.tokens for step in taken),
        loss=taken[-1].loss,
        made=now(),
    )
    recorder.intern([prepared.stamps], {})
    recorder.record(*_facts(recorder, places, prepared, model))
    recorder.refresh()
    if not job.layers:  # only once the model is one: nothing that fails here may cost what was learned
        measured.inherit(Path(job.weights), folder, places.cache)
    shutil.rmtree(job.folder, ignore_errors=True)
    return model


def _made_again(known: Model, folder: Path, files: dict[str, str]) -> Model:
    """The model whose folder was gone, if this is it. Raises TrainingError, and then nothing stands in its place."""
    if files != known.files:
        shutil.rmtree(folder)
        raise TrainingError(
            f"{known.label} was trained again and came to other weights than before.",
            next_step="Restore its folder from a copy, or repeat this on the kind of machine that it was trained on.",
        )
    return known


def _contiguous(steps: Sequence[training_queries.StoredStep]) -> int:
    """The last step up to which every one is there."""
    count = 0
    for step in steps:
        if step.step != count + 1:
            break
        count += 1
    return count


def _facts(recorder: Recorder, places: Places, prepared: PreparedTraining, model: Model) -> Iterable[facts.Fact]:
    at, by, node = now(), recorder.by, f"model:{model.label}"
    parents = [(f"dataset:{model.dataset}", "trained"), (f"teacher:{prepared.student.name}", "starts from")]
    if prepared.teacher is not None:
        parents.append((f"teacher:{prepared.teacher.name}", "distribution"))
    for parent, kind in parents:
        yield facts.Derived(at=at, by=by, parent=parent, child=node, kind=kind)
    yield facts.ModelTrained(at=at, by=by, model=model)
    yield facts.TeacherRegistered(at=at, by=by, teacher=as_teacher(places, model))
    yield facts.Derived(at=at, by=by, parent=node, child=f"teacher:{model.label}", kind="teaches as")


def _method(job: Job) -> dict[str, object]:
    names = ("method", "rank", "learning_rate", "epochs", "seed", "signal", "layers", "gradient_checkpointing")
    said = {"chat_template": digest_value(job.chat_template)} if job.chat_template else {}
    return {name: getattr(job, name) for name in names} | said


def _count(reasons: Iterable[str]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for reason in reasons:
        counted[reason] = counted.get(reason, 0) + 1
    return counted
