"""How often the embedded teacher passes each task of the suite: 16 samples a task, at a seed that no reported figure uses.

Takes about fifteen minutes on two cores. Prints how many tasks it passes between 10 and 70 % of the time, and every family.
"""

import tempfile
from pathlib import Path

from stillhouse.datasets.tasks.judge import judge
from stillhouse.datasets.tasks.suites import load_suite
from stillhouse.generation.batches import GenerationRequest, plan_batches, seed_of
from stillhouse.generation.decode import Sampling, closed_code_block, decode
from stillhouse.generation.load_model import load
from stillhouse.sandbox.pool import Sandbox
from stillhouse.teachers.embedded import embedded_weights

SAMPLES, CALIBRATION_SEED = 16, 1000

if __name__ == "__main__":
    tasks = {task.id: task for task in load_suite("stillhouse")}
    with tempfile.TemporaryDirectory() as cache:
        loaded = load(embedded_weights(), dtype="bfloat16", cache=Path(cache))
        requests = []
        for task in tasks.values():
            prompt = loaded.render([{"role": "user", "content": task.messages[-1].content}])
            requests += [
                GenerationRequest(f"{task.id}#{n}", prompt, seed_of(CALIBRATION_SEED, prompt, n))
                for n in range(SAMPLES)
            ]
        made = [
            one
            for batch in plan_batches(requests, 128)
            for one in decode(loaded, batch, Sampling(0.8, 256), closed_code_block)
        ]
    passed = dict.fromkeys(tasks, 0)
    with Sandbox() as sandbox:
        pairs = [(tasks[one.key.partition("#")[0]], one.text) for one in made]
        for (task, _), verdict in zip(pairs, judge(sandbox, pairs), strict=True):
            passed[task.id] += verdict.status == "passed"
    rates = {name: count / SAMPLES for name, count in passed.items()}
    between = sum(0.1 <= rate <= 0.7 for rate in rates.values())
    print(f"{len(rates)} tasks: {between} between 10 and 70 %, {sum(rate < 0.1 for rate in rates.values())} below, "
          f"{sum(rate > 0.7 for rate in rates.values())} above")  # fmt: skip
    for family in sorted({task.family for task in tasks.values()}):
        members = [rates[task.id] for task in tasks.values() if task.family == family]
        print(f"  {family:18} {len(members):3} tasks  {100 * sum(members) / len(members):3.0f} %")
