"""The decode loop: its samples follow the model's distribution, and do not depend on what was interrupted when."""

import math
from collections import Counter
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
numpy = pytest.importorskip("numpy")

from stillhouse.errors import ModelUnusable  # noqa: E402
from stillhouse.generation.batches import Batch, GenerationRequest, plan_batches, seed_of  # noqa: E402
from stillhouse.generation.decode import Sampling, closed_code_block, decode  # noqa: E402
from stillhouse.generation.load_model import load  # noqa: E402
from stillhouse.generation.sampling import TOP, draw  # noqa: E402
from stillhouse.generation.weights import weights_digest  # noqa: E402


def chi_squared_limit(freedom: int) -> float:
    """Wilson and Hilferty's approximation of the 1 - 1e-6 quantile: a right sampler fails one seed in a million."""
    return freedom * (1 - 2 / (9 * freedom) + 4.753 * math.sqrt(2 / (9 * freedom))) ** 3


def chi_squared(observed: Counter[int], probabilities: list[float], trials: int) -> tuple[float, int]:
    """The statistic and its degrees of freedom; tokens expected fewer than five times count together."""
    likely = [token for token, share in enumerate(probabilities) if share * trials >= 5]
    rest = 1 - sum(probabilities[token] for token in likely)
    cells = [(observed[token], probabilities[token] * trials) for token in likely]
    if rest * trials >= 5:
        cells.append((trials - sum(observed[token] for token in likely), rest * trials))
    return sum((seen - expected) ** 2 / expected for seen, expected in cells), len(cells) - 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("vocabulary", [10, TOP, 3000])
def test_draws_follow_the_distribution(vocabulary, temperature):
    generator = torch.Generator().manual_seed(vocabulary)
    logits = torch.randn(vocabulary, generator=generator) * 2
    probabilities = torch.softmax(logits.double() / temperature, 0).tolist()
    trials = 12_000
    uniforms = torch.from_numpy(numpy.random.Generator(numpy.random.Philox(key=1)).random(trials))
    drawn = Counter(draw(logits.expand(trials, -1), uniforms, temperature).tolist())
    statistic, freedom = chi_squared(drawn, probabilities, trials)
    assert statistic < chi_squared_limit(freedom)


def test_the_test_of_the_distribution_can_fail():
    """A sampler that leaves out what lies beyond its sorted part, as top-k sampling does, is caught."""
    logits = torch.zeros(200)
    uniforms = torch.from_numpy(numpy.random.Generator(numpy.random.Philox(key=1)).random(40_000))
    drawn = Counter(logits[:TOP].expand(40_000, -1).argmax(-1).tolist())
    statistic, freedom = chi_squared(drawn, [1 / 200] * 200, 40_000)
    assert statistic > chi_squared_limit(freedom)
    assert draw(torch.zeros(1, 200), uniforms[:1], 1.0).item() < 200


def test_edges_of_the_uniform():
    logits = torch.tensor([[0.0, 5.0, 1.0]])
    assert draw(logits, torch.tensor([0.0]), 1.0).item() == 1, "the likeliest comes first"
    assert draw(logits, torch.tensor([1.0 - 1e-16]), 1.0).item() == 0, (
        "the last comes last, and there is nothing after it"
    )
    assert draw(logits, torch.tensor([0.9]), 0).item() == 1, "temperature 0 is greedy"


@pytest.fixture(scope="module")
def loaded(tiny_model, tmp_path_factory):
    return load(tiny_model, dtype="float32", cache=tmp_path_factory.mktemp("cache"))


def requests(loaded, prompts: int, samples: int) -> list[GenerationRequest]:
    made = []
    for prompt in range(prompts):
        text = loaded.render([{"role": "user", "content": f"{'x' * prompt} {prompt}"}])
        made += [GenerationRequest(f"{prompt}/{sample}", text, seed_of(3, text, sample)) for sample in range(samples)]
    return made


def answers(loaded, batches: list[Batch], sampling: Sampling) -> dict[str, str]:
    return {made.key: made.text for batch in batches for made in decode(loaded, batch, sampling)}


def test_the_same_plan_gives_the_same_answers_whatever_was_done_before(loaded):
    plan = plan_batches(requests(loaded, 5, 4), 7)
    sampling = Sampling(temperature=1.0, max_tokens=20)
    whole = answers(loaded, list(plan), sampling)
    assert len(whole) == 20
    for batch in plan:
        alone = answers(loaded, [batch], sampling)
        assert alone == {key: whole[key] for key in alone}, "a resumed run samples the same"
    assert len(set(whole.values())) > 15, "samples differ from each other"


def test_answers_are_those_of_the_model_itself(loaded):
    """Greedy, row by row, through padding, shared prompts, dropped rows: equal to the plain forward pass."""
    batch = plan_batches(requests(loaded, 6, 2), 100)[0]
    made = {one.key: one for one in decode(loaded, batch, Sampling(temperature=0, max_tokens=12))}
    for request in batch.requests:
        ids = loaded.encode(request.prompt)
        expected = []
        with torch.inference_mode():
            for _ in range(12):
                token = int(loaded.model(torch.tensor([ids + expected])).logits[0, -1].argmax())
                if token in loaded.end_tokens:
                    break
                expected.append(token)
        assert made[request.key].text == loaded.decode(expected)
        assert made[request.key].prompt_tokens == len(ids)


def test_first_tokens_follow_the_model(loaded):
    prompt = loaded.render([{"role": "user", "content": "hello"}])
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([loaded.encode(prompt)])).logits[0, -1]
    trials = 3000
    batch = Batch(0, tuple(GenerationRequest(str(n), prompt, seed_of(0, prompt, n)) for n in range(trials)))
    drawn: Counter[int] = Counter()
    for made in decode(loaded, batch, Sampling(temperature=1.0, max_tokens=1)):
        drawn[loaded.encode(made.text)[0] if made.text else 0] += 1
    probabilities = torch.softmax(logits.double(), 0).tolist()
    # Pieces of UTF-8 sequences decode to a replacement mark, so they are counted together as one cell.
    ascii_only = [
        share if len(loaded.encode(loaded.decode([t]))) == 1 else 0.0 for t, share in enumerate(probabilities)
    ]
    observed = Counter({token: count for token, count in drawn.items() if ascii_only[token]})
    statistic, freedom = chi_squared(observed, ascii_only, trials)
    assert statistic < chi_squared_limit(freedom)


def test_finish_reasons(loaded):
    batch = Batch(0, tuple(GenerationRequest(str(n), "abc", n) for n in range(40)))
    made = list(decode(loaded, batch, Sampling(temperature=1.5, max_tokens=200)))
    assert {one.finish for one in made} == {"stop", "length"}
    assert all(one.completion_tokens == 200 for one in made if one.finish == "length")
    stopped = list(decode(loaded, batch, Sampling(temperature=1.5, max_tokens=200), lambda text: "`" in text))
    assert any(one.text.endswith("`") and one.finish == "stop" for one in stopped)
    assert all("`" not in one.text[:-1] for one in stopped)


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("", False),
        ("```python\nx", False),
        ("```python\nx\n```", True),
        ("``` x ```", False),
        ("a ```\nb\n``` c", False),
        ("\n```", False),
    ],
)
def test_where_a_code_block_ends(text, closed):
    assert closed_code_block(text) is closed


def test_models_that_cannot_be_used_are_named(tmp_path: Path, tiny_model: Path):
    with pytest.raises(ModelUnusable, match="does not exist"):
        weights_digest(tmp_path / "none")
    with pytest.raises(ModelUnusable, match="no weights"):
        weights_digest(tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny_model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (broken / name).unlink()
    with pytest.raises(ModelUnusable):
        load(broken, dtype="float32", cache=tmp_path / "cache")
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelUnusable):
        load(torn, dtype="float32", cache=tmp_path / "cache")
    (broken / "tokenizer.json").write_bytes((tiny_model / "tokenizer.json").read_bytes())
    (broken / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelUnusable):
        load(broken, dtype="float32", cache=tmp_path / "cache")


def test_reading_a_gguf_leaves_the_library_as_it_was(tmp_path):
    """Its reader is exchanged while a file is unpacked, also where that fails."""
    import gguf

    before = gguf.GGUFReader, gguf.get_tensor_name_map
    (tmp_path / "broken.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + b"\xff" * 64)
    with pytest.raises(ModelUnusable):
        load(tmp_path / "broken.gguf", dtype="float32", cache=tmp_path / "cache")
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == before
