"""What goes wrong with models, done on purpose. Each edit leaves a directory that loads without a word."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conformance.conftest import edit_json

from rhapsode.text.chatml import CHATML
from rhapsode.weights.safetensors import TensorFile


def flip_a_bit(directory: Path, *, bit: int = 30) -> None:
    """One bit of one weight of the first layer, in its exponent."""
    _change_a_weight(directory, lambda word: word ^ (1 << bit))


def blow_up(directory: Path) -> None:
    """One weight becomes infinite."""
    _change_a_weight(directory, lambda _: 0x7F80_0000)


def _change_a_weight(directory: Path, change: Callable[[int], int]) -> None:
    path = directory / "model.safetensors"
    with TensorFile(path) as file:
        start = file.tensors["model.layers.0.mlp.down_proj.weight"].start
    data = bytearray(path.read_bytes())
    (word,) = struct.unpack_from("<I", data, start)
    struct.pack_into("<I", data, start, change(word))
    path.write_bytes(data)


def change_the_template(directory: Path) -> None:
    write_template(directory, CHATML.replace("'\\n' + content }}", "'\\n' + content + ' ' }}"))


def begin_the_template_twice(directory: Path) -> None:
    write_template(directory, "{{ bos_token }}" + CHATML)


def begin_texts_twice(directory: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        single = value["post_processor"]["single"]
        single.insert(0, single[0])

    edit_json(directory / "tokenizer.json", change)


def begin_texts_never(directory: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        value["post_processor"]["single"].pop(0)

    edit_json(directory / "tokenizer.json", change)


def swap_two_merges(directory: Path) -> None:
    """The first and the last: "he" now comes after " t", so that " the" is no longer one token."""

    def change(value: dict[str, Any]) -> None:
        merges = value["model"]["merges"]
        merges[0], merges[-1] = merges[-1], merges[0]

    edit_json(directory / "tokenizer.json", change)


def change_the_rotation(directory: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        if "rope_parameters" in value:
            value["rope_parameters"]["rope_theta"] = 500_000.0
        value["rope_theta"] = 500_000.0

    edit_json(directory / "config.json", change)


def change_the_end(directory: Path) -> None:
    edit_json(directory / "generation_config.json", lambda value: value.update(eos_token_id=[1]))


def write_template(directory: Path, template: str) -> None:
    (directory / "chat_template.jinja").write_text(template)
    edit_json(directory / "tokenizer_config.json", lambda value: value.update(chat_template=template))
