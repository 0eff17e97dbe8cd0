"""Documents in one row are kept apart: equal to each alone, in value and gradient, for every architecture or not at all."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from stillhouse.students import attention  # noqa: E402
from stillhouse.students.attention import attend, layout, why_not_apart  # noqa: E402
from tests.examples import examples  # noqa: E402

SMALL = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "max_position_embeddings": 256}  # fmt: skip


def model(kind: str, **more):
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**SMALL, **more)
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def reference(query, key, value, lengths):
    """The usual way: one product over the whole row, under a block-diagonal mask."""
    which = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    mask = (which.unsqueeze(0) == which.unsqueeze(1)).tril()
    out = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    return out.transpose(1, 2)


@settings(max_examples=examples(30))
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.sampled_from([3, 600]))
def test_it_is_the_block_diagonal_mask_in_value_and_gradient(lengths, by_hand):
    torch.manual_seed(sum(lengths))
    row = sum(lengths)
    states = [torch.randn(1, heads, row, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2)]
    attention._BY_HAND, before = by_hand, attention._BY_HAND
    try:
        ours, _ = attend(None, *states, None, documents=layout(lengths))
    finally:
        attention._BY_HAND = before
    theirs = reference(*states, lengths)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    for first, second in zip(
        torch.autograd.grad((ours * weight).sum(), states),
        torch.autograd.grad((theirs * weight).sum(), states),
        strict=True,
    ):
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("Llama", {}),
        ("Qwen2", {}),
        ("Qwen3", {"head_dim": 8}),
        ("Mistral", {"sliding_window": 9}),
        ("Phi3", {"pad_token_id": 0}),
    ],
)
def test_a_model_says_of_each_document_what_it_says_of_it_alone(kind, more):
    one = model(kind, **more)
    assert why_not_apart(one, range(64)) == ""
    assert one.config._attn_implementation == attention.NAME
    row = [[5, 6, 7] * 10, [9], [1, 2] * 20]
    together = attention._logits(one, row, documents=layout([len(document) for document in row]))
    one.set_attn_implementation("sdpa")
    alone = torch.cat([attention._logits(one, [document]) for document in row])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "more"),
    [("Gemma2", {"head_dim": 8, "attn_logit_softcapping": 0.05, "initializer_range": 1.0}), ("GPTNeoX", {})],
)
def test_where_an_architecture_needs_more_it_is_said_or_right(kind, more):
    more = dict(more)
    one = model(kind, **more)
    own = one.config._attn_implementation
    reason = why_not_apart(one, range(64))
    if kind == "Gemma2":
        assert "its attention takes softcap" in reason
    assert one.config._attn_implementation == (own if reason else attention.NAME)


def test_a_leak_between_documents_is_found(monkeypatch):
    """The check can fail: documents that are one to the attention are told from documents that are two."""
    honest = attention.layout

    def leaking(lengths, device="cpu"):
        return honest([sum(lengths)], device)._replace(positions=honest(lengths, device).positions)

    monkeypatch.setattr(attention, "layout", leaking)
    assert "differ" in why_not_apart(model("Llama", initializer_range=0.5), range(64))


def test_an_architecture_that_takes_no_attention_is_left_as_it_was():
    one = model("Llama")
    before = attention._logits(one, [[1, 2, 3]])
    one.set_attn_implementation = lambda name: (_ for _ in ()).throw(ValueError("not for this one"))
    with pytest.raises(ValueError, match="not for this one"):
        why_not_apart(one, range(10))
    del one.set_attn_implementation
    torch.testing.assert_close(attention._logits(one, [[1, 2, 3]]), before)
