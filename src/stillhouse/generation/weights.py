"""Which files make a model, and the one digest that stands for them. No torch here: policy asks this, too."""

from pathlib import Path

from stillhouse.canon import digest_file, digest_value
from stillhouse.errors import ModelUnusable

# What changes an answer: the weights, how they are wired, and how text becomes tokens.
_PARTS = (
    "*.safetensors", "*.bin", "config.json", "tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt",
    "chat_template.jinja",
)  # fmt: skip


def weights_digest(path: Path) -> str:
    """The digest of a .gguf file, or of the parts of a model folder by name.

    Raises ModelUnusable where there is nothing of the kind.
    """
    if path.is_file():
        return digest_file(path)
    if not path.is_dir():
        raise ModelUnusable(f"{path} does not exist.")
    found = parts(path)
    if not any(part.suffix in {".safetensors", ".bin"} for part in found):
        raise ModelUnusable(f"{path} holds no weights (*.safetensors).")
    return digest_value({part.name: digest_file(part) for part in found})


def parts(folder: Path) -> list[Path]:
    """The files of a model folder that change its answers, by name."""
    return sorted({part for pattern in _PARTS for part in folder.glob(pattern)})
