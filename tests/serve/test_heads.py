"""Models that do not write, over HTTP: OpenAI's own client gets their vectors, /classify their labels and rewards."""

import math
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from starlette.testclient import TestClient
from tests.model.test_heads import LABELS, write_head
from tests.recipe.bases import make_base

from rhapsode.engine.heads import load_head
from rhapsode.model.spec import Head
from rhapsode.serve.config import ServeConfig
from rhapsode.serve.heads import create_head_app
from rhapsode.text.chatml import CHATML


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("heads")
    base = make_base(root / "base", "qwen2", template=CHATML)
    for name, head in (("labels", Head(LABELS)), ("reward", Head(("reward",))), ("vectors", Head(pooling="mean"))):
        write_head(root / name, base, head)
    return root


def client_of(models: Path, name: str) -> TestClient:
    app = create_head_app(load_head(models / name), name=name, config=ServeConfig(max_prompts=4))
    return TestClient(app, base_url="http://127.0.0.1")


@pytest.fixture
def vectors(models: Path) -> Iterator[openai.OpenAI]:
    with client_of(models, "vectors") as http:
        yield openai.OpenAI(base_url="http://127.0.0.1/v1", api_key="none", max_retries=0, http_client=http)


def test_the_openai_client_gets_vectors(models: Path, vectors: openai.OpenAI) -> None:
    texts = ["the ship came home", "the crew sang"]
    loaded = load_head(models / "vectors")
    expected = loaded.engine.vectors([loaded.tokenizer.ids(text) for text in texts])
    many = vectors.embeddings.create(model="vectors", input=texts)  # base64, of the client's own accord
    for one, row in zip(many.data, expected.tolist(), strict=True):
        assert one.embedding == pytest.approx(row, abs=1e-5)
        assert math.hypot(*one.embedding) == pytest.approx(1, abs=1e-5)
    plain = vectors.embeddings.create(model="vectors", input=texts[0], encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(many.data[0].embedding, abs=1e-5)
    ids = loaded.tokenizer.ids(texts[1])
    assert vectors.embeddings.create(model="vectors", input=ids).data[0].embedding == pytest.approx(
        many.data[1].embedding, abs=1e-5
    )
    assert many.usage.total_tokens == sum(len(loaded.tokenizer.ids(text)) for text in texts)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": ["a"] * 5}, "at most 4 inputs"),
        ({"input": [999_999]}, "token ids are below"),
        ({"input": "ship " * 500}, "tokens; the model reads from 1 to 64"),
        ({"input": "a", "dimensions": 3}, "vectors of this model have"),
        ({"input": []}, "input"),
        ({"input": "a", "colour": "red"}, "unknown fields: colour"),
    ],
)
def test_what_cannot_be_read_is_refused(changes: dict[str, object], said: str, models: Path) -> None:
    with client_of(models, "vectors") as http:
        answer = http.post("/v1/embeddings", json={"model": "vectors", **changes})
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


def test_a_classifier_answers_with_its_label_and_all_probabilities(models: Path) -> None:
    loaded = load_head(models / "labels")
    with client_of(models, "labels") as http:
        answer = http.post("/classify", json={"model": "labels", "input": ["the wind", "the gates"]}).json()
    scores = loaded.engine.scores([loaded.tokenizer.ids("the wind"), loaded.tokenizer.ids("the gates")])
    for one, row in zip(answer["data"], scores, strict=True):
        assert one["probs"] == pytest.approx(row.softmax(-1).tolist(), abs=1e-5)
        assert one["label"] == LABELS[int(row.argmax())]


def test_what_models_that_write_are_asked_is_refused_with_the_way(models: Path) -> None:
    chat = {"model": "labels", "messages": [{"role": "user", "content": "Hello"}]}
    with client_of(models, "labels") as http:
        found: httpx.Response = http.post("/v1/chat/completions", json=chat)
        assert http.get("/v1/models").json()["data"][0]["id"] == "labels"
        assert http.get("/health").json()["status"] == "ok"
        neither = http.post("/classify", json={"model": "labels"})
    assert found.status_code == 404
    assert "it tells 3 labels apart; ask /classify" in found.json()["error"]["message"]
    assert (neither.status_code, neither.json()["error"]["param"]) == (400, "input")


def test_a_reward_model_rewards_an_answer(models: Path) -> None:
    with client_of(models, "reward") as http:
        asked = {"model": "reward", "messages": [{"role": "user", "content": "Sing"}]}
        refused = http.post("/classify", json=asked)
        asked["messages"] = [*asked["messages"], {"role": "assistant", "content": "of ships"}]  # type: ignore[misc]
        found = http.post("/classify", json=asked)
        text = http.post("/classify", json={"model": "reward", "input": "of ships"}).json()
    assert refused.status_code == 400
    assert isinstance(text["data"][0]["reward"], float)
    assert isinstance(found.json()["data"][0]["reward"], float)
