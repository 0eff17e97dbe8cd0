"""Which files make a model, and the one digest that stands for them. No torch here: policy asks this, too."""

import json
from pathlib import Path

from stillhouse.canon import digest_file, digest_value
from stillhouse.errors import ModelUnusable

# What changes an answer: the weights, how they are wired, and how text becomes tokens.
_WEIGHTS = ("*.safetensors", "*.bin")
_PARTS = (
    *_WEIGHTS, "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
    "additional_chat_templates/*.jinja",
)  # fmt: skip


def weights_digest(path: Path) -> str:
    """The digest of a .gguf file, or of the parts of a model folder by name.

    Raises ModelUnusable where there is nothing of the kind.
    """
    if path.is_file():
        return digest_file(path)
    if not path.is_dir():
        raise ModelUnusable(f"{path} does not exist.")
    if (path / "adapter_config.json").exists():
        raise ModelUnusable(
            f"{path} holds adapters to weights that stand elsewhere.",
            next_step="Merge them into their base model, and name the folder of the result.",
        )
    found = parts(path)
    _check_indexes(path)
    if not any(part.suffix in {".safetensors", ".bin"} for part in found):
        raise ModelUnusable(f"{path} holds no weights (*.safetensors).")
    return digest_value({str(part.relative_to(path)): digest_file(part) for part in found})


def _check_indexes(folder: Path) -> None:
    """An index says which file holds a tensor: none may be one that the digest does not cover. Raises ModelUnusable."""
    for index in sorted(folder.glob("*.index.json")):
        try:
            named = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values()
            strange = sorted({str(name) for name in named if "/" in str(name) or not (folder / str(name)).is_file()})
        except (OSError, ValueError, AttributeError) as failure:
            raise ModelUnusable(f"{index} cannot be read: {failure}.") from failure
        if strange:
            raise ModelUnusable(
                f"{index} names {strange[0]!r}, which is no file of the folder itself.",
                next_step="Put all files of the weights into one folder.",
            )


def tensor_digests(path: Path) -> tuple[str, ...]:
    """The digests of the files that hold the tensors: by them weights are known under whatever config stands beside."""
    files = [path] if path.is_file() else [part for pattern in _WEIGHTS for part in path.glob(pattern)]
    return tuple(sorted(digest_file(file) for file in files))


def parts(folder: Path) -> list[Path]:
    """The files of a model folder that change its answers, by name."""
    return sorted({part for pattern in _PARTS for part in folder.glob(pattern)})
