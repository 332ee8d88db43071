"""The files of a tokenizer, in the spellings that models are published with, read as transformers reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.tokenizer import Tokenizer

Make = Callable[..., Path]
Shape = dict[str, Any]


def theirs(directory: Path) -> transformers.PreTrainedTokenizerBase:
    loaded: transformers.PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(directory)
    return loaded


def edit(path: Path, **values: Any) -> None:
    """Set keys of a JSON file; None takes them away."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    after = {key: value for key, value in {**before, **values}.items() if value is not None}
    path.write_text(json.dumps(after), encoding="utf-8")


@pytest.mark.parametrize("flags", [{"add_bos_token": True}, {"add_bos_token": False}, {"add_eos_token": True}])
@pytest.mark.parametrize("kind", ["llama2", "qwen", "gpt2"])
def test_whether_a_text_has_a_beginning_is_for_tokenizer_json_to_say(make: Make, kind: str, flags: Shape) -> None:
    directory = make(kind, **flags)
    loaded = Tokenizer.load(directory)
    assert loaded.ids("self") == theirs(directory)("self").input_ids
    assert loaded.prefix == ([1] if kind == "llama2" else [])


def test_a_name_may_be_an_object(make: Make) -> None:
    eos = {"__type": "AddedToken", "content": "</s>", "lstrip": False, "rstrip": False, "special": True}
    loaded = Tokenizer.load(make("llama2", eos_token=eos))
    assert loaded.show(loaded.eos) == "</s>"
    assert loaded.names["eos_token"] == "</s>"


def test_an_absent_bos_stays_absent(make: Make) -> None:
    directory = make("qwen", chat_template="{{ bos_token }}|{{ eos_token }}")
    edit(directory / "special_tokens_map.json", bos_token="<|im_start|>")
    loaded = Tokenizer.load(directory)
    assert "bos_token" not in loaded.names
    assert loaded.bos == loaded.eos
    assert theirs(directory).bos_token is None


def test_names_may_stand_in_the_older_file(make: Make) -> None:
    directory = make("llama2")
    edit(directory / "tokenizer_config.json", eos_token=None, bos_token=None, added_tokens_decoder=None)
    edit(directory / "special_tokens_map.json", eos_token={"content": "</s>"}, bos_token="<s>", unk_token="<unk>")
    loaded, other = Tokenizer.load(directory), theirs(directory)
    assert (loaded.bos, loaded.eos) == (other.bos_token_id, other.eos_token_id) == (1, 2)
    assert dict(loaded.names) == other.special_tokens_map


@pytest.mark.parametrize(
    ("name", "ends"), [("config.json", 2), ("generation_config.json", 2), ("generation_config.json", [2, 1])]
)
def test_the_end_of_text_may_be_known_to_the_model_alone(make: Make, name: str, ends: Any) -> None:
    directory = make("llama2")
    edit(directory / "tokenizer_config.json", eos_token=None)
    with pytest.raises(RhapsodeError, match="names no eos_token"):
        Tokenizer.load(directory)
    edit(directory / name, eos_token_id=ends)
    assert Tokenizer.load(directory).names["eos_token"] == "</s>"


@pytest.mark.parametrize("ends", [10**6, "</s>", [], None, {}])
def test_an_end_of_text_that_is_none_is_refused(make: Make, ends: Any) -> None:
    directory = make("llama2")
    edit(directory / "tokenizer_config.json", eos_token=None)
    (directory / "config.json").write_text(json.dumps({"eos_token_id": ends}))
    with pytest.raises(RhapsodeError, match="names no eos_token"):
        Tokenizer.load(directory)


def test_a_token_with_a_role_is_special_even_if_the_file_forgets_it(make: Make, kinds: dict[str, Shape]) -> None:
    shape = {**kinds["llama2"], "added_tokens": [t for t in kinds["llama2"]["added_tokens"] if t["content"] != "</s>"]}
    directory = make("llama2", shape=shape)
    loaded = Tokenizer.load(directory)
    assert "</s>" in loaded.special_names
    assert loaded.token_bytes(loaded.eos) == b""
    assert (
        loaded.encode("a</s>")
        == theirs(directory)("a</s>", add_special_tokens=False, split_special_tokens=True).input_ids
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        ("{{ 1 }}", "{{ 1 }}"),
        ([{"name": "tool_use", "template": "{{ 2 }}"}, {"name": "default", "template": "{{ 1 }}"}], "{{ 1 }}"),
        ({"default": "{{ 1 }}", "rag": "{{ 3 }}"}, "{{ 1 }}"),
        ([{"name": "tool_use", "template": "{{ 2 }}"}], ""),
        ([], ""),
    ],
)
def test_of_several_templates_the_default_is_used(make: Make, value: Any, expected: str) -> None:
    assert Tokenizer.load(make("llama2", chat_template=value)).chat_template == expected


def test_the_file_of_the_template_wins(make: Make) -> None:
    directory = make("llama2", chat_template="{{ 1 }}")
    (directory / "chat_template.jinja").write_text("{{ 2 }}\n")
    assert Tokenizer.load(directory).chat_template == theirs(directory).chat_template == "{{ 2 }}\n"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("eos_token", 7, "eos_token is not the name of a token"),
        ("eos_token", {"content": ["</s>"]}, "eos_token is not the name of a token"),
        ("bos_token", "\ud800", "bos_token is not the name of a token"),
        ("pad_token", "<nowhere>", "no token '<nowhere>'"),
        ("chat_template", 7, "chat_template is not text"),
        ("chat_template", [{"name": "default", "template": 7}], "chat_template is not text"),
        ("chat_template", "\ud800", "chat_template is not text"),
    ],
)
def test_a_configuration_of_wrong_types_is_refused(make: Make, key: str, value: Any, message: str) -> None:
    directory = make("llama2")
    edit(directory / "tokenizer_config.json", **{key: value})
    with pytest.raises(RhapsodeError, match=message) as caught:
        Tokenizer.load(directory)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_a_file_that_is_no_text_is_refused(make: Make, name: str) -> None:
    directory = make("llama2")
    (directory / name).write_bytes(b"\xff\xfe{}")
    with pytest.raises(RhapsodeError, match=f"{name} is damaged"):
        Tokenizer.load(directory)


def test_a_file_that_is_endless_is_not_read(make: Make) -> None:
    directory = make("llama2")
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer.json").symlink_to("/dev/zero")
    with pytest.raises(RhapsodeError, match="does not exist"):
        Tokenizer.load(directory)
    (directory / "tokenizer.json").unlink()
    with (directory / "tokenizer.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RhapsodeError, match="larger than 64 MiB"):
        Tokenizer.load(directory)


def test_what_was_loaded_is_saved_as_it_was(make: Make, tmp_path: Path) -> None:
    """Byte for byte, however the file was laid out; and transformers reads the same ids from it."""
    directory = make("gemma", chat_template="{{ 1 }}\r\n")
    shape = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    (directory / "tokenizer.json").write_bytes(json.dumps(shape, indent=3).replace("\n", "\r\n").encode())
    loaded = Tokenizer.load(directory)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == (directory / "tokenizer.json").read_bytes()
    again = Tokenizer.load(tmp_path / "again")
    assert (again.names, again.chat_template) == (loaded.names, loaded.chat_template)
    text = "self\n\n\n <b>é</b>"
    assert again.ids(text) == loaded.ids(text) == theirs(tmp_path / "again")(text).input_ids


def test_a_model_without_a_template_is_saved_without(make: Make, tmp_path: Path) -> None:
    Tokenizer.load(make("llama2")).save(tmp_path / "again")
    assert not (tmp_path / "again" / "chat_template.jinja").exists()
    assert theirs(tmp_path / "again").chat_template is None
