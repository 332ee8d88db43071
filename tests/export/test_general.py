from pathlib import Path

import pytest
from tests.conftest import make_spec
from tests.export.conftest import FAMILIES, WIDE

from rhapsode.core.events import Event, Events
from rhapsode.core.manifest import Manifest
from rhapsode.export.gguf.encodings import find_encoding
from rhapsode.export.gguf.general import general, read_card, title
from rhapsode.model.families.registry import spec_from_config


def manifest(**facts: object) -> Manifest:
    return Manifest("model", {}, {}, {}, facts, "1")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("gemma-3-270m", "gemma-3-270M-Q8_0.gguf"),
        ("gemma-3-270m-it", "gemma-3-270M-it-Q8_0.gguf"),
        ("Llama 3.2 1B Instruct", "Llama-3.2-1B-Instruct-Q8_0.gguf"),
        ("SmolLM2-1.7B", "SmolLM2-1.7B-Q8_0.gguf"),
        ("Mixtral-8x7B-v0.1", "Mixtral-8x7B-v0.1-Q8_0.gguf"),
        ("homer", "homer-19K-Q8_0.gguf"),
        ("a/b: c", "a-b-c-19K-Q8_0.gguf"),
    ],
)
def test_a_file_is_named_by_the_convention_of_the_format(name: str, file: str) -> None:
    assert title(name, spec=make_spec()).file_name(find_encoding("q8_0")) == file


def test_the_size_of_experts_says_how_many_there_are() -> None:
    spec = spec_from_config(FAMILIES["mixtral"] | WIDE)
    one = spec.parameters - 3 * sum(3 * spec.width * layer.ffn for layer in spec.layers)
    assert title("m", spec=spec).size == f"4x{one / 1000:.0f}K"


def test_what_is_known_is_said_and_nothing_else() -> None:
    spec, encoding = make_spec(), find_encoding("q4_0")
    card = {"license": "other", "license_name": "gemma", "language": ["en", "el"], "tags": ["poetry"]}
    found = general(title("homer-5M", spec=spec), encoding, manifest=manifest(source="hub: x/y"), card=card)
    assert found == {
        "general.type": "model",
        "general.name": "homer-5M",
        "general.basename": "homer",
        "general.size_label": "5M",
        "general.license": "gemma",
        "general.languages": ["en", "el"],
        "general.tags": ["poetry"],
        "general.quantization_version": 2,
        "general.file_type": 2,
        "rhapsode.source.origin": "hub: x/y",
    }
    plain = general(title("homer-5M", spec=spec), encoding, manifest=manifest(licence="mit"), card={"language": 3})
    assert plain["general.license"] == "mit"
    assert "general.languages" not in plain


@pytest.mark.parametrize(
    ("text", "card", "warnings"),
    [
        ("---\nlicense: mit\nlanguage: en\n---\n# x", {"license": "mit", "language": "en"}, 0),
        ("---\r\nlicense: mit\r\n---\r\n", {"license": "mit"}, 0),
        ("# a card without front matter\n---\nlicense: mit\n---\n", {}, 0),
        ("---\na: &x [*x, *x]\n---\n", {}, 1),
        ("---\n- a list\n---\n", {}, 0),
        ("---\n" + "[" * 10_000 + "\n---\n", {}, 1),
    ],
)
def test_a_card_is_read_or_warned_about(text: str, card: dict[str, str], warnings: int, tmp_path: Path) -> None:
    heard: list[Event] = []
    (tmp_path / "README.md").write_bytes(text.encode())
    assert read_card(tmp_path, events=Events(heard.append)) == card
    assert [event.kind for event in heard] == ["warning"] * warnings


def test_a_directory_without_a_card_has_none(tmp_path: Path) -> None:
    assert read_card(tmp_path, events=Events()) == {}
