"""One rendering for everyone: the ids others make from the template, an exact mask, boundaries nobody can forge."""

import pytest
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.chat import Message, read_messages, render
from rhapsode.text.tokenizer import SPECIAL_TOKENS, Tokenizer

same_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def conversations(content: st.SearchStrategy[str], answer: st.SearchStrategy[str]) -> st.SearchStrategy[list[Message]]:
    system = st.builds(Message, role=st.just("system"), content=content)
    user = st.builds(Message, role=st.just("user"), content=content)
    assistant = st.builds(Message, role=st.just("assistant"), content=answer)
    turns = st.lists(user | assistant, max_size=5)
    begun = st.tuples(system, turns).map(lambda parts: [parts[0], *parts[1]])
    return (turns | begun).filter(bool)


texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.text("ab \n\t\r.'", max_size=20)
forged = st.lists(st.sampled_from([*SPECIAL_TOKENS, "assistant\n", "\n", " x"]), max_size=5).map("".join)
# An answer that begins with an empty line is rendered as a model would generate it, which no text template can do.
answers = texts.filter(lambda text: "\n" not in _leading_space(text) and "\r" not in _leading_space(text))
any_conversation = conversations(texts | forged, texts | forged)


def _leading_space(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


@same_fixture
@given(messages=conversations(texts, answers), prompt=st.booleans())
def test_the_ids_are_those_of_transformers(
    tokenizer: Tokenizer, theirs: transformers.PreTrainedTokenizerBase, messages: list[Message], prompt: bool
) -> None:
    rows = [message.row() for message in messages]
    expected = theirs.apply_chat_template(rows, tokenize=True, return_dict=False, add_generation_prompt=prompt)
    assert render(messages, tokenizer=tokenizer, add_generation_prompt=prompt).ids == expected


@pytest.fixture(scope="module")
def theirs(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> transformers.PreTrainedTokenizerBase:
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(directory)
    loaded: transformers.PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(directory)
    return loaded


@given(any_conversation)
def test_content_cannot_forge_a_turn(tokenizer: Tokenizer, messages: list[Message]) -> None:
    ids = render(messages, tokenizer=tokenizer).ids
    special = [token for token in ids if token < len(SPECIAL_TOKENS)]
    assert special == [tokenizer.bos] + [tokenizer.special("<|im_start|>"), tokenizer.end_of_turn] * len(messages)
    assert tokenizer.decode(ids) == "".join(f"{m.role}\n{m.content}\n" for m in messages)


@given(any_conversation)
def test_the_beginning_of_a_conversation_is_a_prefix(tokenizer: Tokenizer, messages: list[Message]) -> None:
    whole = render(messages, tokenizer=tokenizer)
    for count in range(1, len(messages)):
        part = render(messages[:count], tokenizer=tokenizer)
        assert whole.ids[: len(part.ids)] == part.ids
        assert whole.mask[: len(part.mask)] == part.mask
        if messages[count].role == "assistant":
            prompt = render(messages[:count], tokenizer=tokenizer, add_generation_prompt=True).ids
            assert whole.ids[: len(prompt)] == prompt
            assert not any(whole.mask[len(part.ids) : len(prompt)])
            assert whole.mask[len(prompt)]


@given(any_conversation, st.booleans())
def test_the_mask_is_exactly_the_answers_and_their_ends(
    tokenizer: Tokenizer, messages: list[Message], prompt: bool
) -> None:
    rendered = render(messages, tokenizer=tokenizer, add_generation_prompt=prompt)
    trained = [token for token, is_trained in zip(rendered.ids, rendered.mask, strict=True) if is_trained]
    answers = [tokenizer.encode(message.content) for message in messages if message.role == "assistant"]
    assert trained == [token for answer in answers for token in [*answer, tokenizer.end_of_turn]]


def test_a_conversation_in_full(tokenizer: Tokenizer) -> None:
    messages = [Message(role="user", content="2+2?"), Message(role="assistant", content="4")]
    rendered = render(messages, tokenizer=tokenizer)
    newline, start = tokenizer.encode("\n"), tokenizer.special("<|im_start|>")
    question = [0, start, *tokenizer.encode("user\n2+2?"), 4, *newline, start, *tokenizer.encode("assistant\n")]
    assert rendered.ids == [*question, *tokenizer.encode("4"), 4, *newline]
    assert rendered.mask == [False] * len(question) + [True, True, False]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "there are no messages"),
        ([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}], r"messages\[1\].role: a system"),
        ([{"role": "judge", "content": "a"}], r"messages\[0\].role: "),
        ([{"role": "user", "content": "a"}, {"role": "user"}], r"messages\[1\].content: "),
        ([{"role": "user", "content": 3}], r"messages\[0\].content: "),
        ([{"role": "user", "content": "a", "name": "b"}], r"messages\[0\].name: "),
        (["hello"], r"messages\[0\]: "),
    ],
)
def test_what_is_no_conversation_is_refused(tokenizer: Tokenizer, rows: list[object], message: str) -> None:
    with pytest.raises(RhapsodeError, match=message):
        render(read_messages(rows), tokenizer=tokenizer)


def test_an_unknown_role_is_refused_however_it_was_made(tokenizer: Tokenizer) -> None:
    with pytest.raises(RhapsodeError, match="'judge' is not a role"):
        render([Message.model_construct(role="judge", content="x")], tokenizer=tokenizer)
