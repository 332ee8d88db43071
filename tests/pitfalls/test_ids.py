"""Pitfalls 5, 7, 8, 9 and 18: masks of templates, ends that are not learned or not served, beginnings that come twice,
and tokens of a template that is no more.
"""

import json
from pathlib import Path

import pytest
from tests.conformance.conftest import altered
from tests.conformance.faults import write_template
from tests.pitfalls.conftest import Project, Vocabularies, conversation
from tests.recipe.bases import TEMPLATE

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.corpus.examples.encode import Encoded, encode
from rhapsode.corpus.examples.example import Completion, Conversation
from rhapsode.corpus.examples.prepare import prepare_examples
from rhapsode.corpus.packing import batch
from rhapsode.corpus.tokenise import tokenise
from rhapsode.corpus.tokens import Tokens
from rhapsode.corpus.tokens_config import TokensConfig
from rhapsode.recipe.load import load_recipe
from rhapsode.text.chat import Message, render
from rhapsode.text.tokenizer import Tokenizer

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
FORGETS = TURNS.replace("{{ m.content }}", "{{ m.content if loop.last or m.role == 'user' else '...' }}")
COUNTS = "There are {{ messages | length }} turns.\n" + TURNS
SAID = tuple(
    Message(role="user" if n % 2 == 0 else "assistant", content=text)
    for n, text in enumerate(("Which colour?", "Green.", "Sure?", "Yes."))
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def learned(one: Encoded, tokenizer: Tokenizer) -> str:
    return "".join(tokenizer.show(token) for token, is_learned in zip(one.ids, one.learned, strict=True) if is_learned)


def test_05_a_template_that_marks_nothing_gives_the_mask_all_the_same(vocabulary: Vocabularies) -> None:
    """Neither nothing nor everything: the answers and what ends them."""
    tokenizer = vocabulary(TURNS + ASK)
    (one,) = encode(Conversation(SAID), tokenizer=tokenizer, stops={tokenizer.special("<|im_end|>")})
    assert learned(one, tokenizer) == "Green.<|im_end|>Yes.<|im_end|>"


@pytest.mark.parametrize("template", [FORGETS + ASK, COUNTS + ASK])
def test_05_a_template_whose_turns_do_not_add_up_is_refused(template: str, vocabulary: Vocabularies) -> None:
    tokenizer = vocabulary(template)
    with pytest.raises(RhapsodeError, match=r"messages\[\d\]: this chat template .*cannot be told"):
        encode(Conversation(SAID), tokenizer=tokenizer, stops={tokenizer.special("<|im_end|>")})


def test_07_the_end_is_learned_where_padding_has_the_same_id(vocabulary: Vocabularies) -> None:
    tokenizer = vocabulary(TEMPLATE)
    assert tokenizer.pad == tokenizer.eos
    (one,) = encode(Completion("The ship", " is red"), tokenizer=tokenizer, stops={tokenizer.eos})
    assert one.ids[-1] == tokenizer.eos
    assert one.learned[-1]


def test_07_rows_that_are_padded_learn_every_end_and_no_padding(project: Project) -> None:
    """In the rows as they are trained: as many ends are targets as there are examples."""
    plan = project.plan()
    split, packing, eos = plan.data.tokens.split("train"), plan.data.training, plan.data.tokenizer.eos
    rows = batch(split, packing, list(range(packing.num_rows)), pad=plan.data.tokenizer.pad)
    assert int((rows.targets == eos).sum()) == split.num_documents
    assert int((rows.documents == 0).sum()) > 0


def test_08_an_end_of_turn_that_the_served_model_does_not_stop_at_is_refused(project: Project) -> None:
    """Turns end with a token that the model's generation_config.json does not know."""
    template = (TURNS + ASK).replace("{{ m.content }}<|im_end|>", "{{ m.content }}<|im_start|>")
    (project.folder / "more").mkdir()
    source = project.folder / "bases" / "wide"
    altered(source, project.folder / "more" / "wide", lambda path: write_template(path, template))
    project.write([conversation(f"Which colour has ship {n}?", "Red.") for n in range(20)])
    with pytest.raises(RhapsodeError, match=r"rows\.jsonl#row\d+: an answer ends with '<\|im_start\|>', at which"):
        project.plan("model.base=more/wide")


def test_09_a_template_and_a_tokenizer_that_both_begin_begin_once(vocabulary: Vocabularies) -> None:
    """The same ids where it is trained, evaluated and served."""
    tokenizer = vocabulary(GEMMA, base="gemma3_text")
    stop = tokenizer.special("<end_of_turn>")
    (one,) = encode(Conversation(SAID), tokenizer=tokenizer, stops={stop})
    assert (one.ids[0], one.ids.count(tokenizer.bos)) == (tokenizer.bos, 1)
    asked = render(SAID[:3], tokenizer=tokenizer, add_generation_prompt=True).ids
    assert one.ids[: len(asked)] == asked
    (plain,) = encode(Completion("The ship", " is red"), tokenizer=tokenizer, stops={tokenizer.eos})
    assert plain.ids.count(tokenizer.bos) == 1
    assert plain.ids[: len(tokenizer.ids("The ship"))] == tokenizer.ids("The ship")


def test_18_tokens_of_another_template_or_vocabulary_are_made_anew(
    project: Project, vocabulary: Vocabularies, tmp_path: Path
) -> None:
    project.write([conversation(f"Which colour has ship {n}?", "Red.") for n in range(40)])
    corpus = _corpus(project)
    found = [_tokens(corpus, vocabulary.folder(template), tmp_path) for template in (TURNS, TURNS.replace("\n", " "))]
    assert found[0].path != found[1].path
    assert found[0].split("train").document(0).tolist() != found[1].split("train").document(0).tolist()
    other = vocabulary.folder(TURNS)
    assert _tokens(corpus, other, tmp_path).path == found[0].path
    shape = json.loads((other / "tokenizer.json").read_text())
    shape["model"]["merges"] = shape["model"]["merges"][:-5]
    (other / "tokenizer.json").write_text(json.dumps(shape))
    assert _tokens(corpus, other, tmp_path).path != found[0].path


def _corpus(project: Project) -> Path:
    config = load_recipe(project.recipe).recipe.data
    return prepare_examples(config, root=project.layout.corpora, base=project.folder, events=Events())


def _tokens(corpus: Path, words: Path, root: Path) -> Tokens:
    stop = Tokenizer.load(words).special("<|im_end|>")
    return Tokens.open(
        tokenise(corpus, TokensConfig(), root=root / "tokens", events=Events(), tokenizer_dir=words, stops=[stop])
    )
