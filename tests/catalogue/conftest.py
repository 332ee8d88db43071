from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.catalogue.hub_server import HubServer, Repository
from tests.conftest import make_decoder, make_spec

from rhapsode.core.events import Event, Events
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import write_model

REPO = "sea-press/tiny-sailor"


class Heard(Events):
    """Events, and everything that was said."""

    def __init__(self) -> None:
        self.said: list[Event] = []
        super().__init__(self.said.append)

    def of(self, kind: str) -> list[dict[str, object]]:
        return [event.fields for event in self.said if event.kind == kind]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for every test, and none of the outer world's caches and consents."""
    place = tmp_path / "home"
    monkeypatch.setenv("RHAPSODE_HOME", str(place))
    monkeypatch.delenv("RHAPSODE_ACCEPT_LICENCES", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    return place


@pytest.fixture(scope="session")
def foreign(tokenizer: Tokenizer, tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory as a publisher offers it: no manifest, a card and a licence."""
    path = tmp_path_factory.mktemp("published") / "tiny-sailor"
    path.mkdir()
    model = make_decoder(make_spec(vocab_size=tokenizer.vocab_size, context=256))
    write_model(path, spec=model.spec, weights=list(model.named_parameters()), tokenizer_dir=tokenizer_dir, stops=(1,))
    (path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny sailor\n", encoding="utf-8")
    (path / "LICENSE").write_text("Apache License, in the words of a test.\n", encoding="utf-8")
    return path


@pytest.fixture
def hub(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that has the model as `REPO`, and much beside it that is no data."""
    files = {path.name: path.read_bytes() for path in foreign.iterdir()}
    files |= {"pytorch_model.bin": b"\x80\x04pickle", "modeling_sailor.py": b"print('run')", "onnx.tar": b"0" * 10}
    with HubServer() as server:
        server.repositories[REPO] = Repository(files, card={"license": "apache-2.0"})
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
