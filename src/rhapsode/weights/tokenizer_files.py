"""The tokenizer's files of a model directory, and its chat template in the two places where readers look for it."""

import shutil
from pathlib import Path
from typing import Any

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.model.spec import ModelSpec
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.json_file import read_bytes, read_object, write_object

TEMPLATE = "chat_template.jinja"
LARGEST_TEMPLATE = 1 << 20


def copy_tokenizer(source: Path, into: Path, *, events: Events) -> None:
    """Copy the files that every reader understands, with the chat template both beside them and inside.

    Where a publisher's two templates differ, the file is the one that current readers follow; a warning tells.

    Raises:
        RhapsodeError: there is no tokenizer.json.
    """
    if not (source / "tokenizer.json").is_file():
        raise RhapsodeError(
            f"{source} lacks tokenizer.json",
            "write one with transformers: AutoTokenizer.from_pretrained(DIRECTORY).save_pretrained(DIRECTORY)",
        )
    for name in ("tokenizer.json", "special_tokens_map.json"):
        if (source / name).is_file():
            shutil.copyfile(source / name, into / name)
    config = read_object(source / "tokenizer_config.json")
    beside, inside = _template_beside(source), _template_inside(config, source=source, events=events)
    template = inside if beside is None else beside
    if beside and inside and beside != inside:
        events.emit(
            "warning",
            message=f"{source}: {TEMPLATE} and the chat_template of tokenizer_config.json differ; the first is used",
        )
    if template is not None:
        (into / TEMPLATE).write_bytes(_encoded(template, source=source))
    if not template or config.get("chat_template") == template:
        shutil.copyfile(source / "tokenizer_config.json", into / "tokenizer_config.json")
    else:
        write_object(into / "tokenizer_config.json", {**config, "chat_template": template})


def check_vocabulary(directory: Path, *, spec: ModelSpec) -> None:
    """A model may have rows that no token uses, never a token without a row.

    Raises:
        RhapsodeError: the tokenizer is damaged, or has a token that the model lacks.
    """
    size = Tokenizer.load(directory).rows_needed
    if size > spec.vocab_size:
        raise RhapsodeError(
            f"the tokenizer has {size:,} tokens, the model {spec.vocab_size:,}",
            "put the tokenizer beside the model that it was trained with",
        )


def _template_beside(source: Path) -> str | None:
    path = source / TEMPLATE
    if not path.is_file():
        return None
    try:
        return read_bytes(path, most=LARGEST_TEMPLATE).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RhapsodeError(f"{path} is damaged: {error}", "get the file again") from None


def _encoded(template: str, *, source: Path) -> bytes:
    try:
        return template.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can spell
        raise RhapsodeError(f"{source / 'tokenizer_config.json'}: chat_template is damaged: {error}") from None


def _template_inside(config: dict[str, Any], *, source: Path, events: Events) -> str | None:
    """The template in tokenizer_config.json; of several, the one that readers take when nobody names another."""
    found = config.get("chat_template")
    if found is None or isinstance(found, str):
        return found
    path = source / "tokenizer_config.json"
    entries = found if isinstance(found, list) else []
    named = {e["name"]: e["template"] for e in entries if isinstance(e, dict) and e.keys() == {"name", "template"}}
    if len(named) != len(entries) or not isinstance(named.get("default"), str):
        raise RhapsodeError(f"{path}: chat_template is neither a text nor a list with one named default", "correct it")
    others = ", ".join(str(name)[:40] for name in named if name != "default")
    if others:
        events.emit("warning", message=f"{path}: of its chat templates, default is used; not used: {others}")
    default: str = named["default"]
    return default
