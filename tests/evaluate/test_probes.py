"""Prompts are real places in held-out documents, and what is shown as following really follows."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.evaluate.conftest import Prepared

from rhapsode.corpus.documents import Document, iter_documents
from rhapsode.evaluate.config import SamplesConfig
from rhapsode.evaluate.probes import Probe, probes
from rhapsode.text.tokenizer import Tokenizer


def find(
    prepared: Prepared, tokenizer: Tokenizer, *, context: int = 2000, seed: int = 0, **settings: int
) -> list[Probe]:
    config = SamplesConfig.model_validate({"count": 100, "max_tokens": 400, **settings})
    return probes(prepared.corpus, config, tokenizer=tokenizer, context=context, seed=seed)


def of_texts(
    monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer, texts: Sequence[str], *, source: str = "m.py"
) -> list[Probe]:
    documents = [Document(str(i), text, source, "", {}) for i, text in enumerate(texts)]
    monkeypatch.setattr("rhapsode.evaluate.probes.iter_documents", lambda *_, **__: iter(documents))
    return probes(Path(), SamplesConfig(count=100), tokenizer=tokenizer, context=2000, seed=0)


def test_prompt_and_continuation_are_the_document(prepared: Prepared, tokenizer: Tokenizer) -> None:
    texts = {d.id: d.text for d in iter_documents(prepared.corpus, split="validation")}
    found = find(prepared, tokenizer)
    assert {p.kind for p in found} == {"function", "opening"}
    assert len({p.document for p in found}) == len(found) == len(texts)
    for probe in found:
        assert texts[probe.document].startswith(probe.prompt + probe.followed)
        assert probe.followed.strip()


def test_functions_are_cut_after_their_docstring_or_signature(prepared: Prepared, tokenizer: Tokenizer) -> None:
    functions = [p for p in find(prepared, tokenizer) if p.kind == "function"]
    endings = {p.prompt.splitlines()[-1] for p in functions}
    assert endings == {'    """', "    ):"}
    for probe in functions:
        assert probe.source.endswith(".py")
        assert f"def {probe.name}(" in probe.prompt
        assert probe.name != "short"
        assert probe.followed.splitlines()[-1].strip() in ("return math.sqrt(total)", "return 1")


def test_openings_have_the_words_that_were_asked_for(prepared: Prepared, tokenizer: Tokenizer) -> None:
    openings = [p for p in find(prepared, tokenizer, opening_words=7) if p.kind == "opening"]
    assert {len(p.prompt.split()) for p in openings} == {7}
    assert not any(p.prompt[-1].isspace() for p in openings)


def test_prompts_leave_room_for_the_completion(prepared: Prepared, tokenizer: Tokenizer) -> None:
    found = find(prepared, tokenizer, context=128, max_tokens=60)
    assert max(len(tokenizer.ids(p.prompt)) for p in found) <= 128 - 60
    assert max(len(tokenizer.encode(p.followed)) for p in found) <= 60
    texts = {d.id: d.text for d in iter_documents(prepared.corpus, split="validation")}
    assert all(p.prompt + p.followed in texts[p.document] for p in found)


def test_the_draw_repeats_and_follows_the_seed(prepared: Prepared, tokenizer: Tokenizer) -> None:
    assert find(prepared, tokenizer, count=5) == find(prepared, tokenizer, count=5)
    assert find(prepared, tokenizer, count=5) != find(prepared, tokenizer, count=5, seed=1)
    assert len(find(prepared, tokenizer, count=5)) == 5
    assert find(prepared, tokenizer, count=0) == []


@pytest.mark.parametrize(
    "text",
    [
        "print 'python 2'\ndef f():\n    a\n    b\n    c\n",
        "x = 1\n",
        "def f(): return 1\n",
        "def f():\n    return 1\n",
        "",
    ],
)
def test_python_without_a_usable_function_gives_nothing(
    monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer, text: str
) -> None:
    assert of_texts(monkeypatch, tokenizer, [text]) == []


def test_odd_python_is_cut_at_lines(monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer) -> None:
    text = (
        "'\\d'\n\x0c\ndef f(\n    a,  # é\n):\n    @g\n    def h():\n        pass\n    b = 1\n    return h\nafter = 1\n"
    )
    (probe,) = of_texts(monkeypatch, tokenizer, [text])
    assert probe.prompt.endswith("\n):\n")
    assert probe.followed == "    @g\n    def h():\n        pass\n    b = 1\n    return h\n"
