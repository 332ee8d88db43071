import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.completion import Completion, Piece
from rhapsode.engine.output import FinishReason, Output, Scored
from rhapsode.engine.scheduler import RequestId
from rhapsode.text.tokenizer import Tokenizer, train_tokenizer

TEXTS = ["the cat sat on the mat and the dog sat on the log"] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, vocab_size=320)


def pieces_of(
    tokenizer: Tokenizer, tokens: list[int], *, stop: list[str], finish: FinishReason = "length"
) -> list[Piece]:
    completion = Completion(tokenizer, stop=stop)
    pieces: list[Piece] = []
    for place, token in enumerate(tokens):
        reason = finish if place == len(tokens) - 1 else None
        pieces.append(completion.push(Output(RequestId(0), Scored(token), reason)))
        if pieces[-1].finish_reason is not None:
            break
    return pieces


@given(text=st.text(min_size=1, max_size=12), stop=st.lists(st.text(min_size=1, max_size=3), max_size=2))
def test_text_and_tokens_tell_the_same_story(tokenizer: Tokenizer, text: str, stop: list[str]) -> None:
    tokens = tokenizer.encode(text + " the cat 👍🏽 é")
    whole = tokenizer.decode(tokens)
    pieces = pieces_of(tokenizer, tokens, stop=stop)
    given_text = "".join(piece.text for piece in pieces)
    assert whole.startswith(given_text)
    assert not any(one in given_text for one in stop)
    spoken = [spoken for piece in pieces for spoken in piece.tokens]
    assert [one.scored.token for one in spoken] == tokens[: len(spoken)]
    joined = tokenizer.decode_bytes(one.scored.token for one in spoken)
    assert joined.startswith(given_text.encode())
    if pieces[-1].finish_reason == "length":
        assert given_text == whole
        assert len(spoken) == len(tokens)
    else:
        assert any((given_text + one) in whole for one in stop)
    for place, one in enumerate(spoken):
        assert len(tokenizer.decode_bytes(tokens[:place]).decode(errors="ignore")) == one.offset


def test_a_stop_string_across_tokens_does_not_leak(tokenizer: Tokenizer) -> None:
    tokens = [token for char in "so the end" for token in tokenizer.encode(char)]
    pieces = pieces_of(tokenizer, tokens, stop=["the"])
    assert [piece.text for piece in pieces] == ["s", "o", " ", "", "", ""]
    assert pieces[-1].finish_reason == "stop"


def test_half_a_character_is_never_given_out(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("👍".encode())
    assert len(tokens) == 4
    assert [piece.text for piece in pieces_of(tokenizer, tokens, stop=[])] == ["", "", "", "👍"]
    assert [piece.text for piece in pieces_of(tokenizer, tokens[:3], stop=[])] == ["", "", "\ufffd"]


def test_the_token_that_ends_an_answer_has_no_text_and_is_reported(tokenizer: Tokenizer) -> None:
    pieces = pieces_of(tokenizer, [*tokenizer.encode("the"), tokenizer.eos], stop=["e!"], finish="stop")
    assert "".join(piece.text for piece in pieces) == "the"
    assert pieces[-1].finish_reason == "stop"
    assert [one.scored.token for one in pieces[-1].tokens][-1] == tokenizer.eos


def test_a_failed_request_raises(tokenizer: Tokenizer) -> None:
    with pytest.raises(RhapsodeError, match="why"):
        Completion(tokenizer).push(Output(RequestId(0), None, "error", error=RhapsodeError("why")))
