"""The chat template that a recipe names, as its text: a recipe that is kept can then be repeated without the file."""

from pathlib import Path

from stillhouse.errors import RecipeError

# As published with OpenAI's ChatML (2023), and written by most models that say they follow it.
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def template_text(name: str, folder: Path, where: str) -> str:
    """The text that ``name`` stands for: ``chatml``, a Jinja file beside the recipe, or nothing.

    Raises RecipeError where there is no such file, or it is no template.
    """
    if name in ("", "chatml"):
        return CHATML if name else ""
    try:
        text = (folder / name).read_text(encoding="utf-8")
    except (OSError, ValueError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else "it is not UTF-8"
        raise RecipeError(
            f"{where}: [train] chat_template {folder / name} cannot be read: {reason}.",
            next_step='Name a file with a Jinja template, or "chatml".',
        ) from failure
    if "messages" not in text:
        raise RecipeError(
            f"{where}: [train] chat_template {folder / name} never mentions `messages`, so it is no chat template."
        )
    return text
