"""What a student learns from, behind one seam: for every answer token, how far the student is from what is wanted.

A ``TeacherSignal`` is told a pack and returns a loss for that pack's answer tokens; the loop knows nothing else of it. Text is
one signal, a live teacher's distribution another; stored sparse logits, the student's own answers scored by a teacher, or a
teacher with another tokenizer are further ones: each a class here that reads ``pack`` as it needs.
"""

import inspect
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn.functional import cross_entropy, log_softmax

from stillhouse.errors import TokenizersDiffer
from stillhouse.nouns import Signal

if TYPE_CHECKING:
    from torch import Tensor

    from stillhouse.students.attention import Layout


class SignalRow:
    """A pack as tensors: ``ids [1, row]``, ``keep [answer tokens]`` the places that predict them, ``labels`` what they are."""

    def __init__(self, ids: "Tensor", keep: "Tensor", labels: "Tensor", documents: "Layout", *, together: bool) -> None:
        self.ids, self.keep, self.labels, self.documents, self.together = ids, keep, labels, documents, together

    def logits(self, model: Any) -> "Tensor":
        """A model's logits ``[answer tokens, vocabulary]``: only there where the loss looks.

        Documents in one row each begin at position 0. One alone is numbered by the model, which may begin elsewhere (RoBERTa).
        """
        wanted = {"use_cache": False, "logits_to_keep": self.keep}
        taken: dict[str, Any] = {name: value for name, value in wanted.items() if name in _arguments(model)}
        if self.together:  # positions and borders of several documents; a model with its own attention takes neither
            taken |= {"position_ids": self.documents.positions.unsqueeze(0), "documents": self.documents}
        logits: Tensor = model(input_ids=self.ids, **taken).logits[0]
        return logits if "logits_to_keep" in taken else logits[self.keep]


def _arguments(model: Any) -> frozenset[str]:
    """What a model's forward pass takes by name: recurrent ones know no positions, some give all logits or none."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return frozenset(inspect.signature(type(base).forward).parameters)


class TeacherSignal(Protocol):
    """Where the gradient comes from."""

    def loss(self, row: SignalRow, logits: "Tensor") -> "Tensor":
        """Loss in nats of each answer token ``[answer tokens]``, from the student's logits ``[answer tokens, vocabulary]``."""


class Text:
    """The teacher's words: cross-entropy on the tokens that it wrote."""

    def loss(self, row: SignalRow, logits: "Tensor") -> "Tensor":
        """Minus the log-probability of each token."""
        return cross_entropy(logits.float(), row.labels, reduction="none")


class ForwardKL:
    """The teacher's distribution over each next token, from the live teacher: KL(teacher || student) (Hinton et al. 2015).

    The student is to put mass wherever the teacher does.
    """

    def __init__(self, teacher: Any) -> None:
        self._teacher = teacher

    def loss(self, row: SignalRow, logits: "Tensor") -> "Tensor":
        """The divergence at each token."""
        wanted, have = _both(self._teacher, row, logits)
        return (wanted.exp() * (wanted - have)).sum(dim=-1)


class ReverseKL:
    """KL(student || teacher) (Gu et al. 2023, arXiv 2306.08543): the student is to put no mass where the teacher puts none."""

    def __init__(self, teacher: Any) -> None:
        self._teacher = teacher

    def loss(self, row: SignalRow, logits: "Tensor") -> "Tensor":
        """The divergence at each token."""
        wanted, have = _both(self._teacher, row, logits)
        return (have.exp() * (have - wanted)).sum(dim=-1)


def _both(teacher: Any, row: SignalRow, logits: "Tensor") -> "tuple[Tensor, Tensor]":
    """Log-probabilities ``[answer tokens, vocabulary]`` of the teacher and of the student, over the same tokens.

    Output layers are padded to round sizes, and not all to the same: rows that only one has are no tokens, and are cut.
    """
    with torch.no_grad():
        theirs = row.logits(teacher).float()
    size = min(theirs.shape[-1], logits.shape[-1])
    return log_softmax(theirs[..., :size], dim=-1), log_softmax(logits[..., :size].float(), dim=-1)


def make_signal(kind: Signal, teacher: Any) -> TeacherSignal:
    """The signal of a kind; ``teacher`` is a loaded model where the kind needs one."""
    match kind:
        case Signal.TEXT:
            return Text()
        case Signal.FORWARD_KL:
            return ForwardKL(teacher)
        case Signal.REVERSE_KL:
            return ReverseKL(teacher)


def check_same_tokenizer(teacher: Any, student: Any) -> None:
    """A distribution can be compared only over the same tokens. Raises TokenizersDiffer, naming the first difference.

    ``teacher`` and ``student`` are LoadedModels. Rows of an output layer beyond the tokenizer's vocabulary (padding to a round
    size) need not agree: those that only one has are cut.
    """
    theirs, ours = teacher.tokenizer.get_vocab(), student.tokenizer.get_vocab()
    for token in sorted(theirs.keys() | ours.keys()):
        if theirs.get(token) != ours.get(token):
            raise TokenizersDiffer(
                f"{token!r} is {_place(theirs, token)} of the teacher's vocabulary and {_place(ours, token)} of the student's."
            )
    sizes = [int(loaded.model.get_output_embeddings().weight.shape[0]) for loaded in (teacher, student)]
    last = max(theirs.values(), default=0)
    if min(sizes) <= last:
        raise TokenizersDiffer(
            f"Token number {last} has no row in an output layer: the teacher's has {sizes[0]} rows and the student's {sizes[1]}."
        )
    # The same vocabulary can still be applied by other merges or another normalisation.
    probe = "def f(x):\n    return {'a': [x, 0.5, \"é\"]}  # \t1234567\n"
    if teacher.encode(probe) != student.encode(probe):
        raise TokenizersDiffer("They have the same vocabulary and cut text into different tokens of it.")


def _place(vocabulary: dict[str, int], token: str) -> str:
    return f"number {vocabulary[token]}" if token in vocabulary else "no part"
