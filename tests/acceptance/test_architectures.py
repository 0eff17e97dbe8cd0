"""Every architecture either answers, trains and becomes a model that answers, or is refused by name before the first step."""

import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

from stillhouse.errors import ModelUnusable  # noqa: E402
from stillhouse.generation.batches import GenerationRequest, plan_batches, seed_of  # noqa: E402
from stillhouse.generation.decode import decode  # noqa: E402
from stillhouse.generation.load_model import load  # noqa: E402
from stillhouse.generation.measured import caching_of  # noqa: E402
from stillhouse.generation.sampling import Sampling  # noqa: E402
from stillhouse.generation.weights import weights_digest  # noqa: E402
from stillhouse.nouns import Message, Method, Signal  # noqa: E402
from stillhouse.students import training_checkpoints, training_loop  # noqa: E402
from stillhouse.students.documents import Record  # noqa: E402
from stillhouse.students.student import load_student, save_model, trained_model  # noqa: E402
from stillhouse.students.training_loop import Job, StepDone, make_ready  # noqa: E402
from tests.architectures import ENCODERS, EVERY, UNBUILT, UNTRAINED, save  # noqa: E402

# One of each kind of attention and of cache.
KINDS = {
    "llama": "heads in groups, rotated",
    "gpt2": "learned positions, layers that are no Linear",
    "bloom": "positions as a slope (ALiBi)",
    "gptj": "attention beside the other half",
    "gpt_neo": "local attention",
    "mistral": "a sliding window",
    "gemma2": "capped scores, every other layer with a window",
    "gemma3_text": "windows and whole layers, each with its rotation",
    "cohere2": "one norm for both halves",
    "llama4_text": "attention in chunks",
    "deepseek_v3": "compressed keys (MLA), experts",
    "mixtral": "experts",
    "gpt_oss": "sinks, experts as one block",
    "mamba": "a state",
    "mamba2": "a state of heads",
    "rwkv": "a state, without attention",
    "recurrent_gemma": "a state and windows",
    "jamba": "states and attention, experts",
    "bamba": "states and attention",
    "falcon_h1": "a state beside every attention",
    "lfm2": "convolutions and attention",
    "qwen3_next": "a gated delta rule and attention",
    "minimax": "linear attention",
}
LIMIT = 8


@pytest.fixture(scope="session")
def tokenizer(tiny_model):
    return transformers.AutoTokenizer.from_pretrained(tiny_model)


def alive(folder, cache, dtype="float32"):
    """Its greedy answers to prompts of different lengths are those of a plain pass over everything."""
    loaded = load(folder, dtype=dtype, cache=cache)
    loaded.caching = caching_of(loaded)
    requests = []
    for number in range(3):
        prompt = loaded.render([{"role": "user", "content": "say " + "again " * number}])
        requests += [GenerationRequest(f"{number}/{sample}", prompt, seed_of(1, prompt, sample)) for sample in range(2)]
    made = {}
    for batch in plan_batches(requests, 8):
        made |= {one.key: one for one in decode(loaded, batch, Sampling(temperature=0, max_tokens=LIMIT))}
    for request in requests:
        assert made[request.key].text == loaded.decode(plain(loaded, request.prompt)), request.key


def plain(loaded, prompt):
    ids, found = loaded.encode(prompt), []
    with torch.inference_mode():
        while len(found) < LIMIT:
            out = loaded.model(torch.tensor([ids + found]), use_cache=False)
            token = int(out.logits[0, -1].argmax())
            if token in loaded.end_tokens:
                break
            found.append(token)
    return found


def learned(folder, home, method):
    """The folder of what a training of two epochs makes of it. Raises ModelUnusable before the first step, or never."""
    records = tuple(
        Record(f"r{n}", (Message("user", f"say {n}"),), f"{n} and " + "more " * (n % 5), 1) for n in range(6)
    )
    job = Job(
        training="t",
        folder=str(home / f"t-{method}"),
        cache=str(home),
        weights=str(folder),
        weights_digest=weights_digest(folder),
        teacher_weights="",
        teacher_digest="",
        logged=10**9,
        dtype="float32",
        keeps_tokens=False,
        method=method,
        rank=4,
        learning_rate=1e-3,
        epochs=2,
        seed=0,
        signal=Signal.TEXT,
        layers=0,
        gradient_checkpointing=False,
        processes=1,
    )
    steps = []
    ready = make_ready(job, lambda: records)
    try:
        training_loop.train(job, ready, lambda event: steps.append(event) if isinstance(event, StepDone) else None)
    except ModelUnusable:
        assert steps == [], "it is refused before the first step"
        raise
    assert steps
    last = training_checkpoints.newest(home / f"t-{method}", len(ready.steps))
    again = load_student(folder, job.weights_digest, home, "float32", 0)
    try:
        save_model(trained_model(again, job.method, job.rank, last.parameters), home / f"model-{method}")
    except ModelUnusable as failure:
        pytest.fail(f"it was trained, and then refused: {failure}")
    return home / f"model-{method}"


def lives(kind, tokenizer, home, **more):
    """From its folder to a trained model that answers, by adapters where they are possible, and whole."""
    folder = save(kind, tokenizer, home / "base", **more)
    alive(folder, home)
    refused = []
    for method in (Method.LORA, Method.FULL):
        try:
            made = learned(folder, home, method)
        except ModelUnusable as failure:
            refused.append(str(failure))
        else:
            alive(made, home)
    return refused


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_each_kind_answers_and_trains(kind, tokenizer, tmp_path):
    refused = lives(kind, tokenizer, tmp_path)
    assert len(refused) < 2, refused


@pytest.mark.parametrize("kind", ["llama", "mamba", "rwkv"])
def test_what_a_model_s_generation_config_asks_for_besides_changes_nothing(kind, tokenizer, tmp_path):
    folder = save(kind, tokenizer, tmp_path / "base")
    besides = {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "suppress_tokens": list(range(1, 250))}
    besides |= {
        "forced_bos_token_id": 250,
        "forced_eos_token_id": 251,
        "min_new_tokens": 2,
        "num_beams": 3,
        "do_sample": True,
    }
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0, "pad_token_id": 0, **besides}))
    alive(folder, tmp_path)


@pytest.mark.parametrize("kind", ["bert", "roberta", "cpmant"])
def test_an_encoder_is_refused_by_name(kind, tokenizer, tmp_path):
    with pytest.raises(ModelUnusable, match="looks at the tokens after"):
        load(save(kind, tokenizer, tmp_path / "base"), dtype="bfloat16", cache=tmp_path)


def test_a_decoder_of_an_encoder_family_lives(tokenizer, tmp_path):
    assert lives("roberta", tokenizer, tmp_path, is_decoder=True) == []


@pytest.mark.slow  # 190 small models, some seconds each
@pytest.mark.parametrize("kind", sorted(set(EVERY) - set(KINDS) - ENCODERS - UNBUILT.keys()))
def test_every_other_one_answers_and_trains(kind, tokenizer, tmp_path):
    refused = lives(kind, tokenizer, tmp_path)
    assert len(refused) < 2 or kind in UNTRAINED, refused


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_every_encoder_is_refused_by_name(kind, tokenizer, tmp_path):
    folder = save(kind, tokenizer, tmp_path / "base")
    with pytest.raises(ModelUnusable, match="looks at the tokens after"):
        load(folder, dtype="float32", cache=tmp_path)
    with pytest.raises(ModelUnusable, match=r"looks at the tokens after|from tokens alone .* BFloat16"):
        load(folder, dtype="bfloat16", cache=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(UNBUILT))
def test_what_cannot_be_built_from_text_alone_is_refused_by_name(kind, tokenizer, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelUnusable, match=r"\w"):
        load(tmp_path, dtype="float32", cache=tmp_path)
