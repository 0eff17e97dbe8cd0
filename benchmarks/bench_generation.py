"""Answers per second of the decode loop against `transformers.generate`, in one run: the same model, prompts, number format,
temperature and limit. `generate` stops at the end of the turn; ours also stops at the closing code fence, as the product
does; the third line shows ours without that, so that both do the same work.
"""

import tempfile
import time
from pathlib import Path

import torch
import transformers

from stillhouse.datasets.tasks.suites import load_suite
from stillhouse.generation.batches import GenerationRequest, plan_batches, seed_of
from stillhouse.generation.decode import Sampling, closed_code_block, decode, never
from stillhouse.generation.load_model import load
from stillhouse.runs.run_recipe import spread
from stillhouse.teachers.embedded import embedded_weights

ANSWERS, PROMPTS, ALONE, BATCH = 384, 48, 12, 128
LIMIT, TEMPERATURE = 192, 0.8


def generate(loaded, prompts: list[str], batch: int) -> tuple[float, float]:
    tokenizer = loaded.tokenizer
    tokenizer.padding_side = "left"
    torch.manual_seed(0)
    tokens, started = 0, time.perf_counter()
    for start in range(0, len(prompts), batch):
        inputs = tokenizer(prompts[start : start + batch], return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            out = loaded.model.generate(
                **inputs,
                do_sample=True,
                temperature=TEMPERATURE,
                top_k=0,
                max_new_tokens=LIMIT,
                pad_token_id=loaded.pad,
            )
        tokens += int((out[:, inputs["input_ids"].shape[1] :] != loaded.pad).sum())
    taken = time.perf_counter() - started
    return len(prompts) / taken, tokens / taken


def ours(loaded, prompts: list[str], until) -> tuple[float, float]:
    requests = [GenerationRequest(str(n), prompt, seed_of(0, prompt, n)) for n, prompt in enumerate(prompts)]
    started, tokens = time.perf_counter(), 0
    for batch in plan_batches(requests, BATCH):
        tokens += sum(made.completion_tokens for made in decode(loaded, batch, Sampling(TEMPERATURE, LIMIT), until))
    taken = time.perf_counter() - started
    return len(prompts) / taken, tokens / taken


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as cache:
        loaded = load(embedded_weights(), dtype="bfloat16", cache=Path(cache))
        texts = [
            loaded.render([{"role": "user", "content": task.messages[-1].content}])
            for task in spread(load_suite("stillhouse", "train"), PROMPTS)
        ]
        prompts = sorted(texts * (ANSWERS // PROMPTS), key=len)
        alone = generate(loaded, texts[:ALONE], 1)
        print(f"generate, one by one ({ALONE} answers): {alone[0]:.2f} answers/s, {alone[1]:.0f} tokens/s")
        peer = generate(loaded, prompts, 64)
        print(f"generate, batch 64 ({ANSWERS} answers): {peer[0]:.2f} answers/s, {peer[1]:.0f} tokens/s")
        for name, until in (("stopping at the code fence", closed_code_block), ("stopping where generate does", never)):
            mine = ours(loaded, prompts, until)
            print(
                f"ours, batch {BATCH}, {name}: {mine[0]:.2f} answers/s, {mine[1]:.0f} tokens/s; "
                f"ratio {mine[0] / peer[0]:.2f} to batch 64, {mine[0] / alone[0]:.1f} to one by one"
            )
