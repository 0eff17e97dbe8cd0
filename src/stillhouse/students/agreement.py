"""How near a student is to its teacher where neither was trained: loss on the teacher's answers, and agreement on each token."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy

from stillhouse.generation.load_model import LoadedModel
from stillhouse.students.attention import why_not_apart
from stillhouse.students.documents import DocumentPack, Record, documents
from stillhouse.students.signals import check_same_tokenizer
from stillhouse.students.student import language_of, load_student
from stillhouse.students.training_loop import make_row


class Nearness(NamedTuple):
    """Of one task's answers: mean loss in nats a token, and the share of tokens where both find the same one likeliest."""

    loss: float
    agreement: float


def nearness(
    teacher: LoadedModel, student: LoadedModel, answers: Mapping[str, Sequence[Record]]
) -> dict[str, Nearness]:
    """By task, over its answers' tokens. Raises TokenizersDiffer."""
    check_same_tokenizer(teacher, student)
    found: dict[str, Nearness] = {}
    language = language_of(student)
    together = None
    for task, records in answers.items():
        readable, _ = documents(records, language)
        if not readable:
            continue
        if together is None:
            probe = (list(readable[0].tokens) * 2)[:64]
            together = not (why_not_apart(student.model, probe) or why_not_apart(teacher.model, probe))
        packs = [DocumentPack(tuple(readable))] if together else [DocumentPack((document,)) for document in readable]
        found[task] = _of_packs(teacher.model, student.model, packs, together=together)
    return found


def load_whole(
    weights: Path, digest: str, cache: Path, dtype: str, layers: int = 0, *, chat_template: str = ""
) -> LoadedModel:
    """A model to be looked at, in evaluation mode; ``layers`` and ``chat_template`` as a student would start."""
    loaded = load_student(weights, digest, cache, dtype, layers, chat_template=chat_template)
    loaded.model.eval()
    return loaded


def _of_packs(teacher: Any, student: Any, packs: Sequence[DocumentPack], *, together: bool) -> Nearness:
    loss = same = tokens = 0.0
    with torch.inference_mode():
        for pack in packs:
            row = make_row(pack, student.device, together=together)
            ours, theirs = row.logits(student).float(), row.logits(teacher)
            loss += float(cross_entropy(ours, row.labels, reduction="sum"))
            same += float((ours.argmax(dim=-1) == theirs.argmax(dim=-1)).sum())
            tokens += len(row.labels)
    return Nearness(loss / tokens, same / tokens)
