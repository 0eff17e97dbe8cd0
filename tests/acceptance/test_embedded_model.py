"""The model that comes with an installation: unpacked, loaded, asked."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from stillhouse.generation.batches import Batch, GenerationRequest
from stillhouse.generation.decode import closed_code_block, decode
from stillhouse.generation.load_model import load
from stillhouse.generation.sampling import Sampling


@pytest.mark.model
def test_the_embedded_model_answers(embedded, tmp_path_factory):
    found = load(embedded, dtype="float32", cache=tmp_path_factory.getbasetemp().parent / "model-cache")
    prompt = found.render([{"role": "user", "content": "Write a Python function `add(a, b)` that returns the sum."}])
    batch = Batch(0, tuple(GenerationRequest(str(n), prompt, n) for n in range(8)))
    made = list(decode(found, batch, Sampling(temperature=0.5, max_tokens=96), closed_code_block))
    assert sum("def add(a, b)" in one.text for one in made) >= 4
