"""The files of a tokenizer in a Hugging Face model directory, in the spellings that are in use."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.blocks import is_utf8
from rhapsode.text.definition import read_definition

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_MOST_BYTES = 64 * 2**20


class TokenizerFiles(NamedTuple):
    """What a directory says: the text of tokenizer.json, the names of tokens that have a role, the chat template."""

    source: str
    names: dict[str, str]
    chat_template: str


def read_files(directory: Path) -> TokenizerFiles:
    """What the files of `directory` say, as transformers reads them.

    Whether a text begins with bos is for tokenizer.json to say; add_bos_token and add_eos_token are from before it.

    Raises:
        RhapsodeError: a file is missing or damaged, or no end of text is named.
    """
    path = directory / "tokenizer_config.json"
    config = _read_json(path)
    older = directory / "special_tokens_map.json"
    if "added_tokens_decoder" not in config and older.is_file():
        config = _read_json(older) | config
    names = {role: name for role in ROLES if (name := _name(config.get(role), f"{path}: {role}")) is not None}
    source = read_text(directory / "tokenizer.json")
    if "eos_token" not in names:
        names["eos_token"] = _end_of_text(directory, source)
    template = directory / "chat_template.jinja"
    chat_template = read_text(template) if template.is_file() else _template(config.get("chat_template"), path)
    return TokenizerFiles(source, names, chat_template)


def write_files(directory: Path, files: TokenizerFiles, *, model_max_length: int | None = None) -> None:
    """Write what `read_files` and others read; the same values always give the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **files.names,
    }
    if files.chat_template:
        config["chat_template"] = files.chat_template
        _write(directory / "chat_template.jinja", files.chat_template)
    if model_max_length is not None:
        config["model_max_length"] = model_max_length
    _write(directory / "tokenizer.json", files.source)
    _write(directory / "tokenizer_config.json", _json(config))
    _write(directory / "special_tokens_map.json", _json(files.names))


def read_text(path: Path) -> str:
    """The characters of a file as they are."""
    if not path.is_file():
        raise RhapsodeError(f"{path} does not exist", "name a directory that holds a tokenizer")
    if path.stat().st_size > _MOST_BYTES:
        raise RhapsodeError(f"{path} is larger than {_MOST_BYTES >> 20} MiB", "restore the file")
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise RhapsodeError(f"{path} is damaged: {error}", "restore the file") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise RhapsodeError(f"{path} is damaged: {error}", "restore the file") from None
    if not isinstance(value, dict):
        raise RhapsodeError(f"{path} is damaged: it holds no object", "restore the file")
    return value


def _name(value: Any, where: str) -> str | None:
    """A token's name, which is written alone or in an object."""
    name = value.get("content") if isinstance(value, dict) else value
    if name is not None and not (isinstance(name, str) and is_utf8(name)):
        raise RhapsodeError(f"{where} is not the name of a token", 'write the name alone, or as {"content": name}')
    return name


def _template(value: Any, path: Path) -> str:
    """The chat template to use: the only one, or of several the one that is named default."""
    if isinstance(value, list):
        value = {row.get("name"): row.get("template") for row in value if isinstance(row, dict)}
    if isinstance(value, dict):
        value = value.get("default")
    if value is not None and not (isinstance(value, str) and is_utf8(value)):
        raise RhapsodeError(f"{path}: chat_template is not text", "correct it, or write chat_template.jinja")
    return value or ""


def _end_of_text(directory: Path, source: str) -> str:
    """The name of the token that the model's own configuration says ends a text, for tokenizers that do not say."""
    for path in (directory / "generation_config.json", directory / "config.json"):
        ends = _read_json(path).get("eos_token_id") if path.is_file() else None
        first = ends[0] if isinstance(ends, list) and ends else ends
        if isinstance(first, int):
            name = _word(source, first)
            if name is not None:
                return name
    raise RhapsodeError(f"{directory / 'tokenizer_config.json'} names no eos_token", "add the key eos_token")


def _word(source: str, token: int) -> str | None:
    definition = read_definition(source)
    spelled = {**{i: word for word, i in definition.words.items()}, **{t.id: t.content for t in definition.added}}
    return spelled.get(token)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
