"""A tiny model directory with its evidence, and copies of it with something wrong."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import make_decoder, make_spec

from rhapsode.conformance.vectors import add_conformance
from rhapsode.core.manifest import MANIFEST, file_sha256, writing
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import write_model

Edit = Callable[[Path], None]


def save_model(
    path: Path, tokenizer: Tokenizer, *, context: int = 256, family: str = "qwen3", with_evidence: bool = True
) -> Path:
    spec = make_spec(family=family, vocab_size=tokenizer.vocab_size, context=context)
    tokenizer.save(path.parent / f"{path.name}-tokenizer")
    with writing(path, kind="model") as work:
        write_model(
            work.path,
            spec=spec,
            weights=[(name, weight.detach()) for name, weight in make_decoder(spec).named_parameters()],
            tokenizer_dir=path.parent / f"{path.name}-tokenizer",
            stops=[tokenizer.end_of_turn],
        )
        if with_evidence:
            add_conformance(work.path)
    return path


def altered(source: Path, into: Path, edit: Edit) -> Path:
    """A copy of a model with something else in it, and a manifest that agrees with that."""
    shutil.copytree(source, into)
    edit(into)
    manifest = json.loads((into / MANIFEST).read_text())
    manifest["files"] = {name: file_sha256(into / name) for name in manifest["files"]}
    (into / MANIFEST).write_text(json.dumps(manifest))
    return into


def source_of(tokenizer: Tokenizer) -> str:
    """The text of its tokenizer.json."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        return (Path(folder) / "tokenizer.json").read_text(encoding="utf-8")


def with_template(tokenizer: Tokenizer, template: str) -> Tokenizer:
    return Tokenizer(source_of(tokenizer), names=tokenizer.names, chat_template=template)


def edit_json(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


@pytest.fixture(scope="session")
def model_dir(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("conformance") / "tiny", tokenizer)
