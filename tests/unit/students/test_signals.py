"""What a student learns from: right in value, and refused where it would have no meaning."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from stillhouse.errors import TokenizersDiffer  # noqa: E402
from stillhouse.generation.load_model import load  # noqa: E402
from stillhouse.nouns import Signal  # noqa: E402
from stillhouse.students.attention import why_not_apart  # noqa: E402
from stillhouse.students.documents import Document, DocumentPack  # noqa: E402
from stillhouse.students.signals import check_same_tokenizer, make_signal  # noqa: E402
from stillhouse.students.training_loop import make_row  # noqa: E402

PACK = DocumentPack((Document("a", (5, 6, 7, 8, 9), 2), Document("b", (3, 4), 1)))


@pytest.fixture
def loaded(tiny_model, tmp_path):
    one = load(tiny_model, dtype="float32", cache=tmp_path)
    assert why_not_apart(one.model, range(40)) == ""
    return one


def test_text_is_cross_entropy_on_answer_tokens_alone(loaded):
    row = make_row(PACK, "cpu", together=True)
    assert row.labels.tolist() == [7, 8, 9, 4]
    logits = row.logits(loaded.model)
    assert logits.shape[0] == 4
    losses = make_signal(Signal.TEXT, None).loss(row, logits)
    for place, document in ((0, PACK.documents[0]), (3, PACK.documents[1])):
        single = make_row(DocumentPack((document,)), "cpu", together=True).documents
        alone = loaded.model(input_ids=torch.tensor([document.tokens]), documents=single).logits[0]
        expected = -alone[document.answer - 1].log_softmax(-1)[document.tokens[document.answer]]
        torch.testing.assert_close(losses[place], expected)


@pytest.mark.parametrize("kind", [Signal.FORWARD_KL, Signal.REVERSE_KL])
def test_a_divergence_is_nothing_to_oneself_and_positive_to_others(loaded, tiny_model, tmp_path, kind):
    other = load(tiny_model, dtype="float32", cache=tmp_path)
    assert why_not_apart(other.model, range(40)) == ""
    with torch.no_grad():
        other.model.lm_head.weight.add_(torch.randn_like(other.model.lm_head.weight))
    row = make_row(PACK, "cpu", together=True)
    with torch.no_grad():
        same = make_signal(kind, loaded.model).loss(row, row.logits(loaded.model))
        unlike = make_signal(kind, other.model).loss(row, row.logits(loaded.model))
    torch.testing.assert_close(same, torch.zeros(4), atol=1e-6, rtol=0)
    assert (unlike > 1e-3).all()


def test_the_two_divergences_are_each_other_s_mirror(loaded, tiny_model, tmp_path):
    torch.manual_seed(0)
    ours, theirs = torch.randn(4, 257), torch.randn(4, 257)
    p, q = theirs.softmax(-1), ours.softmax(-1)

    class Fixed:
        def logits(self, model):
            return theirs

    forward = make_signal(Signal.FORWARD_KL, None).loss(Fixed(), ours)
    reverse = make_signal(Signal.REVERSE_KL, None).loss(Fixed(), ours)
    torch.testing.assert_close(forward, (p * (p / q).log()).sum(-1))
    torch.testing.assert_close(reverse, (q * (q / p).log()).sum(-1))


def test_other_tokens_are_refused_by_name(loaded, tiny_model, tmp_path):
    check_same_tokenizer(loaded, load(tiny_model, dtype="float32", cache=tmp_path))
    other = load(tiny_model, dtype="float32", cache=tmp_path)
    other.tokenizer.add_tokens(["<think>"])
    with pytest.raises(TokenizersDiffer, match=r"'<think>' is no part of the teacher's vocabulary and number 257"):
        check_same_tokenizer(loaded, other)
    padded = load(tiny_model, dtype="float32", cache=tmp_path)
    padded.model.resize_token_embeddings(264)
    check_same_tokenizer(loaded, padded)  # rows of padding are no tokens
    cut = load(tiny_model, dtype="float32", cache=tmp_path)
    cut.model.resize_token_embeddings(200)
    with pytest.raises(TokenizersDiffer, match="the teacher's has 257 rows and the student's 200"):
        check_same_tokenizer(loaded, cut)
    merging = load(tiny_model, dtype="float32", cache=tmp_path)
    merging.encode = lambda text: [1]
    with pytest.raises(TokenizersDiffer, match="different tokens of it"):
        check_same_tokenizer(loaded, merging)
