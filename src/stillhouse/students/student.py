"""A student before its training: loaded, cut to fewer layers, given what will be trained. And after: one plain model."""

import contextlib
import io
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stillhouse.errors import ModelUnusable, TeacherContradiction
from stillhouse.generation.load_model import LoadedModel, load
from stillhouse.home.model_files import files_below
from stillhouse.nouns import Message, Method
from stillhouse.students.documents import Language
from stillhouse.vault.files import storage_errors, sync_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

ADAPTER = "default"


def load_as_registered(weights: Path, digest: str, cache: Path, dtype: str, *, chat_template: str = "") -> LoadedModel:
    """Weights that are those that policy decided on. Raises TeacherContradiction where they are others, ModelUnusable."""
    loaded = load(weights, dtype=dtype, cache=cache / "models", chat_template=chat_template)
    if loaded.digest != digest:
        raise TeacherContradiction(f"The weights at {weights} have changed since they were registered.")
    return loaded


def load_student(
    weights: Path, digest: str, cache: Path, dtype: str, layers: int, *, chat_template: str = ""
) -> LoadedModel:
    """A student's starting weights. ``layers`` above 0 keeps so many, spread evenly with the first and the last;
    ``chat_template`` is used instead of its own, and saved with it.

    Raises ModelUnusable, TeacherContradiction.
    """
    loaded = load_as_registered(weights, digest, cache, dtype, chat_template=chat_template)
    loaded.model.config.use_cache = False
    if layers:
        keep_layers(loaded, layers)
    return loaded


def keep_layers(loaded: LoadedModel, count: int) -> None:
    """Drop all but ``count`` layers. Raises ModelUnusable where the model has fewer, or keeps them in an unknown place."""
    import torch

    decoder = loaded.model.get_decoder()
    stack = getattr(decoder, "layers", None)
    if not isinstance(stack, torch.nn.ModuleList) or not 2 <= count <= len(stack):
        have = len(stack) if isinstance(stack, torch.nn.ModuleList) else "an unknown number of"
        raise ModelUnusable(
            f"It has {have} layers, and the recipe wants {count} of them.",
            next_step="Set [train] layers between 2 and what it has, or leave it out.",
        )
    # Evenly spread: the first and the last layers do work that the others cannot take over.
    kept = [round(place * (len(stack) - 1) / (count - 1)) for place in range(count)]
    decoder.layers = torch.nn.ModuleList(stack[place] for place in kept)
    config = loaded.model.config
    for place, layer in enumerate(decoder.layers):
        for part in layer.modules():  # each attention knows its place, for the cache
            if hasattr(part, "layer_idx"):
                part.layer_idx = place
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[place] for place in kept]
    config.num_hidden_layers = loaded.layers = count


def language_of(loaded: LoadedModel) -> Language:
    """How a student writes. Raises ModelUnusable where nothing says how a conversation becomes text, or where an answer ends."""
    loaded.check_template()
    if loaded.tokenizer.eos_token_id is None:
        raise ModelUnusable("Its tokenizer has no end-of-turn token, so it could not learn where an answer ends.")

    def render(messages: "Sequence[Message]") -> str:
        return loaded.render([msgspec.structs.asdict(message) for message in messages])

    return Language(
        render=render,
        encode=loaded.encode,
        end=int(loaded.tokenizer.eos_token_id),
        context=loaded.context,
        vocabulary=int(loaded.model.get_input_embeddings().weight.shape[0]),
    )


def make_trainable(loaded: LoadedModel, method: Method, rank: int, *, checkpointing: bool) -> Any:
    """The model with its trainable parameters marked: all of them, or adapters of ``rank`` beside every linear layer."""
    import peft

    model = loaded.model
    if checkpointing:
        # The name changed in transformers 5; both do the same.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        model.enable_input_require_grads()
    if method is Method.FULL:
        return model.requires_grad_(True)
    # Scaled by twice the rank, the customary ratio: the learning rate then means the same at every rank.
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=linear_layers(model), task_type="CAUSAL_LM")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for a name that is on its way out
            warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern")  # of experts, which it would add
            warnings.filterwarnings("ignore", "fan_in_fan_out is set to False")  # it detects which way a matrix lies
            return peft.get_peft_model(model, config, adapter_name=ADAPTER, autocast_adapter_dtype=False)
    except (ValueError, NotImplementedError) as failure:
        raise ModelUnusable(
            f"Adapters cannot be put beside the layers of a {type(model).__name__} ({failure}).",
            next_step='Set [train] method = "full".',
        ) from failure


def linear_layers(model: Any) -> list[str]:
    """The full names of all linear layers but the one that gives the logits. Raises ModelUnusable where there is none.

    What is derived from a linear layer and computes something else (a router) is none: an adapter adds to a product alone.
    """
    output = model.get_output_embeddings()
    found = [name for name, module in model.named_modules() if _is_linear(module) and module is not output]
    if not found:
        raise ModelUnusable(
            f"A {type(model).__name__} has no linear layer that adapters could stand beside.",
            next_step='Set [train] method = "full".',
        )
    return found


def _is_linear(module: Any) -> bool:
    import torch
    from transformers.pytorch_utils import Conv1D

    if type(module) in (torch.nn.Linear, Conv1D):
        return True
    if not isinstance(module, torch.nn.Linear):
        return False
    # Derived from one: Falcon's computes the product in another order, a router of Llama 4 a choice of experts.
    weight = module.weight
    some = torch.linspace(-1, 1, module.in_features, dtype=weight.dtype, device=weight.device).unsqueeze(0)
    try:
        with torch.inference_mode():
            found, product = module(some), torch.nn.functional.linear(some, weight, module.bias)
    except Exception:  # groups of one product, which take their input cut into parts
        return False
    if not isinstance(found, torch.Tensor) or found.shape != product.shape:
        return False
    return bool((found - product).norm() <= 0.05 * product.norm())


def beside_no_adapter(model: Any) -> dict[str, int]:
    """The matrices that adapters do not reach, by the class that holds them, with how many numbers they have: experts that are
    kept as one block, convolutions, states. What stands there is not trained by adapters.
    """
    embeddings = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    found: dict[str, int] = {}
    for module in model.modules():
        if _is_linear(module) or id(module) in embeddings:
            continue
        size = sum(own.numel() for own in module.parameters(recurse=False) if own.dim() >= 2)
        if size:
            name = type(module).__name__
            found[name] = found.get(name, 0) + size
    return found


def trained_model(loaded: LoadedModel, method: Method, rank: int, parameters: "Mapping[str, Tensor]") -> LoadedModel:
    """The student with what it has learned, as one plain model: adapters are merged into the weights."""
    model = make_trainable(loaded, method, rank, checkpointing=False)
    _, unexpected = model.load_state_dict(dict(parameters), strict=False)
    if unexpected:
        raise ModelUnusable(f"Its checkpoint is of another model: {unexpected[0]}.")
    tensors = model.state_dict()
    given = {tensors[name].data_ptr() for name in parameters}  # tied weights stand under one of their names
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.data_ptr() not in given:
            raise ModelUnusable(f"Its checkpoint lacks {name}.")
    if method is Method.LORA:
        with warnings.catch_warnings():
            # Some that say that they tie them do not; merging then says so in the config, which is right.
            warnings.filterwarnings("ignore", "Input and output embeddings are no longer tied")
            model = model.merge_and_unload()
    loaded.model = model
    return loaded


def save_model(loaded: LoadedModel, folder: Path) -> None:
    """Write a model folder that any program reads: config, tokenizer, safetensors. The folder must not exist."""
    # Written beside and renamed: a folder under its final name is always whole.
    building = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    loaded.model.config.use_cache = True  # training turned it off; readers of the folder want it
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that no switch of the library turns off
        loaded.model.save_pretrained(building)
    loaded.tokenizer.save_pretrained(building)
    with storage_errors(f"{folder} could not be written"):
        for file in files_below(building):
            sync_file(building / file)
        for place in [building, *(path for path in building.rglob("*") if path.is_dir())]:
            sync_folder(place)
        building.replace(folder)
        sync_folder(folder.parent)
