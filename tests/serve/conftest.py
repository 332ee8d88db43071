"""A tiny model directory and a server that really runs on it, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
import torch
from tests.conftest import make_decoder, make_spec

from rhapsode.core.manifest import writing
from rhapsode.engine.load import Loaded, load_engine
from rhapsode.text.tokenizer import train_tokenizer
from rhapsode.weights.directory import write_model

CONTEXT = 2048
NAME = "tiny"
TEXTS = ["the cat sat on the mat and the dog sat on the log; user assistant system"] * 3
PROGRAM = """
import sys
from pathlib import Path
from rhapsode.serve.config import ServeConfig
from rhapsode.serve.server import serve
config = ServeConfig(port=0, head_timeout=1.0, max_waiting=64, grace=20)
serve(Path(sys.argv[1]), config=config, name="tiny", on_start=lambda url: print(url, flush=True))
print("ended", flush=True)
"""


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(TEXTS, vocab_size=320)
    spec = make_spec(family="llama", vocab_size=tokenizer.vocab_size, context=CONTEXT, tied=False)
    model = make_decoder(spec)
    with torch.no_grad():
        model.head.weight[: tokenizer.end_of_turn + 1] = 0.0  # it seldom stops by itself
    (root / "tokenizer").mkdir()
    tokenizer.save(root / "tokenizer")
    weights = [(name, value.detach()) for name, value in model.named_parameters()]
    with writing(root / NAME, kind="model") as work:
        write_model(
            work.path,
            spec=spec,
            weights=weights,
            tokenizer_dir=root / "tokenizer",
            stops=(tokenizer.end_of_turn,),
        )
    return root / NAME


@pytest.fixture(scope="session")
def loaded(model_dir: Path) -> Loaded:
    """The same model in this process: what the server must agree with."""
    return load_engine(model_dir)


def start(model_dir: Path) -> tuple[subprocess.Popen[str], str]:
    """A running server and its base URL."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("RHAPSODE_API_KEY", None)
    command = [sys.executable, "-c", PROGRAM, str(model_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.fixture(scope="session")
def url(model_dir: Path) -> Iterator[str]:
    process, url = start(model_dir)
    yield url
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "ended\n")


@pytest.fixture(scope="session")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url.removesuffix("/v1"), timeout=60) as http:
        yield http
