"""Load a causal language model from a folder or a GGUF file: never from the network."""

import contextlib
import errno
import functools
import io
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillhouse.errors import ModelUnusable, StorageError, TemplateRefused
from stillhouse.generation.caching import Caching
from stillhouse.generation.weights import weights_digest

if TYPE_CHECKING:
    from torch import Tensor

_UNPACKING = threading.Lock()


class LoadedModel:
    """A model and its tokenizer, ready to decode; ``digest`` is that of the files it came from."""

    def __init__(self, model: Any, tokenizer: Any, digest: str) -> None:
        self.model, self.tokenizer, self.digest = model, tokenizer, digest
        self.device = next(model.parameters()).device
        config = model.config.get_text_config()
        self.layers = int(getattr(config, "num_hidden_layers", 0))
        self.context = int(getattr(config, "max_position_embeddings", None) or 1 << 30)
        self.end_tokens = _end_tokens(model, tokenizer)
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self.end_tokens, default=0)
        self.folds = False
        self.caching = Caching.IN_PLACE  # ``probe`` finds out what else it needs
        self.back_ticks = frozenset(token for text, token in tokenizer.get_vocab().items() if "`" in text)

    def check_template(self) -> None:
        """Does anything say how a conversation becomes text? Raises ModelUnusable."""
        if not getattr(self.tokenizer, "chat_template", None):
            raise ModelUnusable(
                "Its tokenizer has no chat template.",
                next_step='Set chat_template = "chatml", or a file with a template, in [train] of the recipe that trains '
                "it; to ask it as it is, give a template's text as chat_template in [collect.parameters].",
            )

    def render(self, messages: Sequence[dict[str, str]], chat_template: str = "") -> str:
        """The prompt as the model's own chat template writes it, or the one that is given.

        A template without a system role gets the system text at the head of the first user turn; ``folds`` then says so.
        Raises TemplateRefused, ModelUnusable where there is no template.
        """
        if not chat_template:
            self.check_template()
        try:
            return self._rendered(messages, chat_template)
        except Exception as failure:  # whatever a template raises, in a language of its own
            folded = fold_system(messages)
            if folded is None:
                raise TemplateRefused(f"({_first_line(failure)})") from failure
            try:
                text = self._rendered(folded, chat_template)
            except Exception as again:
                raise TemplateRefused(f"({_first_line(again)})") from again
            self.folds = True
            return text

    def _rendered(self, messages: Sequence[dict[str, str]], chat_template: str) -> str:
        text = self.tokenizer.apply_chat_template(
            list(messages), chat_template=chat_template or None, tokenize=False, add_generation_prompt=True
        )
        return str(text)

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a rendered prompt (the template has written the special tokens already)."""
        return list(self.tokenizer.encode(prompt, add_special_tokens=False))

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of generated tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def next_logits(self, *, ids: "Tensor", mask: "Tensor", positions: "Tensor", cache: Any) -> "Tensor":
        """Logits ``[rows, vocabulary]`` of the token after ``ids [rows, new]``."""
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1]
        return logits


def fold_system(messages: Sequence[dict[str, str]]) -> list[dict[str, str]] | None:
    """A conversation whose system text stands at the head of its first user turn; None where there is none to move."""
    system = [message["content"] for message in messages if message["role"] in ("system", "developer")]
    others = [dict(message) for message in messages if message["role"] not in ("system", "developer")]
    place = next((place for place, message in enumerate(others) if message["role"] == "user"), None)
    if not system or place is None:
        return None
    others[place]["content"] = "\n\n".join([*system, others[place]["content"]])
    return others


def load(path: Path, *, dtype: str, cache: Path, chat_template: str = "") -> LoadedModel:
    """Load weights as ``dtype`` ("bfloat16" or "float32") onto a GPU where there is one.

    ``chat_template`` takes the place of the tokenizer's own. A GGUF file is unpacked once into ``cache`` (loading it takes ten
    times longer than loading the result). Raises ModelUnusable with the reason.
    """
    import torch
    import transformers

    from stillhouse.generation.causality import check_causal

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    digest = weights_digest(path)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars that no switch of the library turns off
            folder = _unpacked(path, digest, cache) if path.is_file() else path
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        with contextlib.redirect_stderr(io.StringIO()):
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype), local_files_only=True
            )
    except Exception as failure:  # whatever the libraries raise: the reader needs the reason, not the class
        if isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise StorageError(f"{cache} could not be written: {failure.strerror}.") from failure
        raise ModelUnusable(f"{path}: {_first_line(failure)}") from failure
    if chat_template:
        tokenizer.chat_template = chat_template
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval()  # type: ignore[arg-type]
    check_causal(model)
    return LoadedModel(model, tokenizer, digest)


def folder_of(path: Path, digest: str, cache: Path) -> Path:
    """The folder that weights are read from: their own, or for a GGUF file the one in ``cache``, which may not be there yet."""
    return cache / digest.replace(":", "-") if path.is_file() else path


def _unpacked(path: Path, digest: str, cache: Path) -> Path:
    """The dequantised form of a GGUF file, made on first use; a rename makes it appear whole or not at all."""
    import torch
    import transformers

    folder = folder_of(path, digest, cache)
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=cache, prefix=".unpacking-"))
    try:
        source: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
        with _header_read_once():
            transformers.AutoTokenizer.from_pretrained(path.parent, **source).save_pretrained(building)
            transformers.AutoModelForCausalLM.from_pretrained(
                path.parent,
                dtype=torch.bfloat16,
                quantization_config=transformers.GgufConfig(dequantize=True),
                **source,
            ).save_pretrained(building)
        os.replace(building, folder)
    except OSError:
        if not folder.exists():  # else another process was first, and its result is as good
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


@contextlib.contextmanager
def _header_read_once() -> Iterator[None]:
    """Within it, a GGUF file's header is read once, and its table of names made once.

    transformers 5 reads the header three times, token by token, and makes the table for each tensor: two thirds of the time that
    unpacking a small model takes. One thread at a time, since the library itself is changed meanwhile.
    """
    import gguf

    kept: Any = gguf
    with _UNPACKING:
        reader, name_map = gguf.GGUFReader, gguf.get_tensor_name_map
        kept.GGUFReader, kept.get_tensor_name_map = functools.cache(reader), functools.cache(name_map)
        try:
            yield
        finally:
            kept.GGUFReader, kept.get_tensor_name_map = reader, name_map


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = getattr(model.generation_config, "eos_token_id", None)
    ends = configured if isinstance(configured, list) else [configured, tokenizer.eos_token_id]
    return frozenset(int(end) for end in ends if end is not None)


def _first_line(failure: Exception) -> str:
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0]
