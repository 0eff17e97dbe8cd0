"""Weights are known again by what a training changed, whatever was done to hide it; the base and siblings are not."""

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402

from stillhouse.generation.weight_sketches import Likeness, likeness, make_sketch, sample_weights  # noqa: E402

SHAPES = {"embed": (300, 64), "a.q": (64, 64), "a.k": (64, 64), "b.q": (64, 64), "b.up": (128, 64), "norm": (64,)}
# Of a weight's usual size, what a training changes: as by a few steps of LoRA, and by many of all weights.
SMALL, LARGE = 0.02, 0.2


def tensors(seed, scale=1.0):
    random = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=random) * scale for name, shape in SHAPES.items()}


def saved(folder, *shards):
    folder.mkdir(parents=True)
    for number, shard in enumerate(shards):
        save_file({name: value.contiguous() for name, value in shard.items()}, folder / f"model-{number}.safetensors")
    return folder


def plus(base, delta, names=("a.q", "a.k", "b.q", "b.up")):
    return {name: value + delta[name] if name in names else value.clone() for name, value in base.items()}


def noisy(known, base, share):
    found = {}
    for name, value in known.items():
        delta = value - base[name]
        noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(99))
        found[name] = value + noise / noise.norm() * delta.norm() * share
    return found


@pytest.fixture(params=[SMALL, LARGE])
def world(request, tmp_path):
    base = tensors(1)
    delta = tensors(2, request.param)
    known = plus(base, delta)
    sketch = make_sketch(
        sample_weights(saved(tmp_path / "base", base)), sample_weights(saved(tmp_path / "known", known))
    )
    return tmp_path, base, delta, known, sketch, request.param


def found(world, name, *shards):
    return likeness(world[4], sample_weights(saved(world[0] / name, *shards)))


def test_what_was_done_to_hide_it_does_not(world):
    _, base, _, known, _, scale = world
    cast = {torch.float16: 1.0, torch.bfloat16: 1.0}
    assert found(world, "same", known) == Likeness(4, 4)
    assert found(world, "renamed", {f"model.{n[::-1]}": value for n, value in known.items()}).is_same
    names = sorted(known)
    assert found(world, "resharded", *({name: known[name]} for name in names)).is_same
    for dtype in cast:
        assert found(world, str(dtype), {name: value.to(dtype) for name, value in known.items()}).is_same
    for share in (0.01, 0.03):
        assert found(world, f"noise {share}", noisy(known, base, share)).is_same
    changed = {name: value.clone() for name, value in known.items()}
    for value in changed.values():
        value.view(-1)[0] = 1e6
    assert found(world, "one value", changed).is_same
    assert found(world, "one tensor", {**known, "a.q": torch.zeros(64, 64)}).is_same
    both = {f"x.{name}": value.to(torch.bfloat16) for name, value in noisy(known, base, 0.01).items()}
    assert found(world, "renamed, cast, disturbed", both).is_same or scale == SMALL


def test_the_base_and_siblings_are_others(world):
    _, base, delta, known, _, scale = world
    others = {"base": base, "sibling": plus(base, tensors(3, scale)), "other": tensors(7)}
    near = {name: 0.9 * delta[name] + 0.43 * tensors(5, scale)[name] for name in delta}  # a correlation of 0.9
    others["of nearly the same data"] = plus(base, near)
    others["halfway"] = {name: base[name] + (known[name] - base[name]) / 2 for name in base}
    for name, weights in others.items():
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            like = found(world, f"{name} {dtype}", {part: value.to(dtype) for part, value in weights.items()})
            assert not like.is_same, (name, dtype, like)


def test_what_the_cast_before_training_changed_is_not_what_was_learned(tmp_path):
    """A sibling that began from the same base in bf16 has all those values, too."""
    base = tensors(1)
    cast = {name: value.to(torch.bfloat16) for name, value in base.items()}
    first = {**cast, "a.q": (cast["a.q"].float() + tensors(2, LARGE)["a.q"]).to(torch.bfloat16)}
    second = {**cast, "a.k": (cast["a.k"].float() + tensors(3, LARGE)["a.k"]).to(torch.bfloat16)}
    sketch = make_sketch(sample_weights(saved(tmp_path / "base", base)), sample_weights(saved(tmp_path / "1", first)))
    assert likeness(sketch, sample_weights(tmp_path / "1")) == Likeness(1, 1)
    assert not likeness(sketch, sample_weights(saved(tmp_path / "2", second))).is_same
    assert not likeness(sketch, sample_weights(saved(tmp_path / "cast", cast))).is_same


def test_where_nothing_differs_there_is_no_sketch(tmp_path):
    base = sample_weights(saved(tmp_path / "base", tensors(1)))
    assert make_sketch(base, base) == b""
    assert make_sketch({}, base) == b""


def test_a_small_change_in_a_coarse_format_is_told_by_all_tensors_together(tmp_path):
    def drawn(seed):
        return torch.randn(64, 64, generator=torch.Generator().manual_seed(seed))

    base = {f"layer.{n}": drawn(n) for n in range(40)}
    known = {f"layer.{n}": base[f"layer.{n}"] + 0.002 * drawn(1000 + n) for n in range(40)}
    sketch = make_sketch(sample_weights(saved(tmp_path / "b", base)), sample_weights(saved(tmp_path / "k", known)))
    for weights, same in ((known, True), (base, False)):
        coarse = {name: value.to(torch.bfloat16) for name, value in weights.items()}
        assert likeness(sketch, sample_weights(saved(tmp_path / f"{same}", coarse))).is_same is same


def test_files_that_are_no_weights_and_quantised_ones(tmp_path):
    from stillhouse.errors import ModelUnusable

    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert sample_weights(tmp_path / "m.gguf") == {}
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelUnusable, match=r"model\.safetensors"):
        sample_weights(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"a": torch.ones(3), "b": "text"}, tmp_path / "pytorch_model.bin")
    assert list(sample_weights(tmp_path)) == ["a"]
