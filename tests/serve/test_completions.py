import openai
import pytest

from rhapsode.engine.completion import complete
from rhapsode.engine.load import Loaded
from rhapsode.engine.sampling import Sampling

PROMPT = "the cat sat on"


def text_of(loaded: Loaded, prompt: list[int], sampling: Sampling) -> str:
    return "".join(piece.text for piece in complete(loaded.engine, loaded.tokenizer, prompt, sampling=sampling))


def test_text_goes_on(client: openai.OpenAI, loaded: Loaded) -> None:
    ids = loaded.tokenizer.ids(PROMPT)
    expected = text_of(loaded, ids, Sampling(temperature=0, max_tokens=16))
    reply = client.completions.create(model="tiny", prompt=PROMPT, temperature=0)
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == (expected, "length")
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (len(ids), 16)
    echoed = client.completions.create(model="tiny", prompt=ids, temperature=0, echo=True)
    assert echoed.choices[0].text == PROMPT + expected


def test_many_prompts_and_many_answers(client: openai.OpenAI, loaded: Loaded) -> None:
    prompts = ["the cat", "the dog sat", ""]
    reply = client.completions.create(model="tiny", prompt=prompts, n=2, seed=3, max_tokens=7, echo=True)
    expected = [
        prompt + text_of(loaded, loaded.tokenizer.ids(prompt), Sampling(seed=3 + choice, max_tokens=7))
        for prompt in prompts
        for choice in range(2)
    ]
    assert [choice.text for choice in reply.choices] == expected
    assert [choice.index for choice in reply.choices] == list(range(6))
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == sum(len(loaded.tokenizer.ids(prompt)) for prompt in prompts)
    texts = [""] * 6
    for chunk in client.completions.create(
        model="tiny", prompt=prompts, n=2, seed=3, max_tokens=7, echo=True, stream=True
    ):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == expected


def test_echo_with_log_probabilities_scores_the_prompt(client: openai.OpenAI, loaded: Loaded) -> None:
    """What lm-eval asks for: the log-probabilities of a given text, and one more token."""
    ids = loaded.tokenizer.ids("the café sat 👍")
    asked = {"model": "tiny", "prompt": ids, "temperature": 0, "max_tokens": 1, "logprobs": 1, "echo": True}
    choice = client.completions.create(**asked).choices[0]
    scored = choice.logprobs
    assert scored is not None
    expected = [one.logprob for one in loaded.engine.score(ids)]
    assert len(scored.token_logprobs) == len(ids) + 1
    assert scored.token_logprobs[0] is None
    assert scored.top_logprobs[0] is None
    assert scored.token_logprobs[1:-1] == pytest.approx(expected[1:], abs=1e-5)
    best = [max(top.values()) for top in scored.top_logprobs[1:]]
    assert scored.token_logprobs[-1] == best[-1]
    assert all(given <= top for given, top in zip(scored.token_logprobs[1:], best, strict=True))
    assert scored.text_offset[-1] == len("the café sat 👍")
    for token, offset in zip(scored.tokens, scored.text_offset, strict=True):
        assert token.startswith(("bytes:", "<|")) or choice.text[offset:].startswith(token)
    alone = client.completions.create(**{**asked, "max_tokens": 0}).choices[0]
    assert alone.text == "the café sat 👍"
    assert alone.logprobs is not None
    assert alone.logprobs.token_logprobs == scored.token_logprobs[:-1]
    tokens = []
    for chunk in client.completions.create(**asked, stream=True):
        tokens += chunk.choices[0].logprobs.tokens if chunk.choices[0].logprobs else []
    assert tokens == scored.tokens


def test_the_token_that_ends_an_answer_is_scored_and_has_no_text(client: openai.OpenAI, loaded: Loaded) -> None:
    bias = {str(loaded.tokenizer.eos): 100}
    reply = client.completions.create(model="tiny", prompt=PROMPT, logit_bias=bias, logprobs=0)
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == ("", "stop")
    assert reply.choices[0].logprobs is not None
    assert reply.choices[0].logprobs.tokens == [f"<|token {loaded.tokenizer.eos}|>"]


def test_stream_with_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.completions.create(
            model="tiny", prompt=PROMPT, max_tokens=5, seed=1, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5


def test_more_tokens_than_there_is_room_for_are_cut_to_the_context(client: openai.OpenAI, loaded: Loaded) -> None:
    ids = [5] * (loaded.engine.context - 3)
    bias = {str(loaded.tokenizer.eos): -100, str(loaded.tokenizer.end_of_turn): -100}
    reply = client.completions.create(model="tiny", prompt=ids, max_tokens=10**12, logit_bias=bias)
    assert reply.usage is not None
    assert (reply.usage.completion_tokens, reply.choices[0].finish_reason) == (3, "length")
