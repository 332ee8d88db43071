"""A plan shows what is learned, however much of a row many examples share."""

from pathlib import Path

import numpy as np
import pytest

from rhapsode.corpus.examples.example import Completion, to_value
from rhapsode.corpus.packing import Tree, pack_trees
from rhapsode.corpus.token_files import Entry, TokenWriter
from rhapsode.corpus.tokens import TokenSplit
from rhapsode.recipe.samples import SHOWN_OF_TRUNK, render_samples
from rhapsode.text.tokenizer import Tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([str(to_value(Completion("The ship", " is green")))] * 3, vocab_size=300)


def test_answers_behind_a_long_trunk_are_shown_whole(tokenizer: Tokenizer, tmp_path: Path) -> None:
    trunk, answers = tokenizer.ids("ship " * 500), [tokenizer.encode(text) for text in (" is green", " is red")]
    with TokenWriter(tmp_path, "train", vocab_size=300, shard_tokens=10_000, has_learned=True) as writer:
        for number, answer in enumerate(answers):
            learned = [False] * len(trunk) + [True] * len(answer)
            writer.add(Entry([*trunk, *answer], str(number), f"rows#{number}", 9, learned, number, "answer"))
    split = TokenSplit(tmp_path, "train", dtype=np.dtype("<u2"))
    lengths = [len(trunk) + len(answer) for answer in answers]
    context = len(trunk) + sum(map(len, answers))
    packing = pack_trees([Tree((0, 1), len(trunk) - 1)], lengths, context=context, num_targets=0)
    [sample] = render_samples(split, packing, tokenizer, count=1, begin=None, prompts=0)
    shared, *own = sample.sequences
    assert len(shared) == sum(SHOWN_OF_TRUNK) + 1
    assert f"[{len(trunk) - 1 - sum(SHOWN_OF_TRUNK)} tokens more]" in "".join(token.text for token in shared)
    said = ["".join(token.text for token in sequence if token.is_trained) for sequence in own]
    assert said == [" is green", " is red"]
