"""Run other people's collectors and proxies, each in a virtual environment of its own, on the work that ours gets.

    python benchmarks/peers.py FOLDER        makes the environments (once; needs the network)

Each peer is one script; it gets the server's address and the number of prompts, and prints how many answers it has in the end.
"""

import subprocess
import sys
import time
from pathlib import Path

PACKAGES = {
    "curator": "bespokelabs-curator==0.1.31",
    "distilabel": "distilabel[openai]==1.5.3 requests",
    "data-designer": "data-designer==0.9.6",
    "litellm": "litellm[proxy]==1.106.2",
}
# curator asks the network for a tokenizer in its constructor: it gets one that only splits, which is faster than its own.
_CURATOR = """
import os, sys, tempfile
os.environ |= {"CURATOR_CACHE_DIR": sys.argv[3], "TELEMETRY_ENABLED": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
os.environ |= {"OPENAI_API_KEY": "x", "CURATOR_DISABLE_RICH_DISPLAY": "1"}
import tiktoken
class Splitting:
    def encode(self, text, **more): return text.split()
tiktoken.get_encoding = tiktoken.encoding_for_model = lambda *a, **k: Splitting()
from bespokelabs import curator
from datasets import Dataset
class Ask(curator.LLM):
    def prompt(self, row): return row["q"]
    def parse(self, row, answer): return {"a": answer}
limits = {"max_requests_per_minute": 10**7, "max_tokens_per_minute": 10**10, "max_concurrent_requests": int(sys.argv[4])}
ask = Ask(model_name="gpt-4o-mini", backend="openai", backend_params={"base_url": sys.argv[1], "api_key": "x", **limits})
found = ask(Dataset.from_list([{"q": f"Say {n}"} for n in range(int(sys.argv[2]))]))
found = getattr(found, "dataset", found)
print("ANSWERS", len(found))
"""
_DISTILABEL = """
import sys
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration
if __name__ == "__main__":
    with Pipeline(cache_dir=sys.argv[3]) as pipeline:
        rows = LoadDataFromDicts(data=[{"instruction": f"Say {n}"} for n in range(int(sys.argv[2]))])
        llm = OpenAILLM(model="m", base_url=sys.argv[1], api_key="x")
        rows >> TextGeneration(llm=llm)
    found = pipeline.run(use_cache=False)
    print("ANSWERS", sum(row["generation"] is not None for row in found["default"]["train"]))
"""
_DATA_DESIGNER = """
import os, sys
os.environ["HOME"] = sys.argv[3]
os.environ["NEMO_TELEMETRY_ENABLED"] = "false"
import pandas
from data_designer.config import *
import data_designer.config as dd
from data_designer.interface import DataDesigner
from pathlib import Path
provider = dd.ModelProvider(name="mock", endpoint=sys.argv[1], provider_type="openai", api_key="x")
parameters = dd.ChatCompletionInferenceParams(max_parallel_requests=int(sys.argv[4]))
model = dd.ModelConfig(alias="m", model="m", provider="mock", inference_parameters=parameters, skip_health_check=True)
designer = DataDesigner(artifact_path=Path(sys.argv[3]), model_providers=[provider])
builder = dd.DataDesignerConfigBuilder(model_configs=[model])
builder.add_column(dd.SamplerColumnConfig(name="id", sampler_type="uuid", params=dd.UUIDSamplerParams()))
builder.add_column(dd.LLMTextColumnConfig(name="a", model_alias="m", prompt="Say {{ id }}"))
found = designer.create(builder, num_records=int(sys.argv[2]))
print("ANSWERS", len(found.load_dataset()))
"""
SCRIPTS = {"curator": _CURATOR, "distilabel": _DISTILABEL, "data-designer": _DATA_DESIGNER}


def make(folder: Path) -> None:
    """One environment for each peer, as the packages do not agree with each other."""
    for name, package in PACKAGES.items():
        if not (folder / name).exists():
            subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
            subprocess.run([folder / name / "bin" / "pip", "install", "--quiet", *package.split()], check=True)


def command(folder: Path, peer: str, url: str, count: int, scratch: Path, in_flight: int) -> list[str]:
    """How a peer is run on so many prompts."""
    script = scratch / f"run_{peer}.py"  # a module of the peer's own name would hide it
    script.write_text(SCRIPTS[peer])
    return [str(folder / peer / "bin" / "python"), str(script), url, str(count), str(scratch), str(in_flight)]


def collect(folder: Path, peer: str, url: str, count: int, scratch: Path, in_flight: int) -> tuple[float, int]:
    """Seconds of a whole run, and how many answers it has."""
    started = time.perf_counter()
    words = command(folder, peer, url, count, scratch, in_flight)
    done = subprocess.run(words, capture_output=True, text=True, cwd=scratch)
    seconds = time.perf_counter() - started
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWERS")]
    if not lines:
        raise RuntimeError(f"{peer} failed:\n{done.stdout[-500:]}\n{done.stderr[-1500:]}")
    return seconds, int(lines[-1].split()[1])


if __name__ == "__main__":
    make(Path(sys.argv[1]))
