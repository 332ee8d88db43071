"""Making the evidence of a model directory, from its own files and before its manifest is written.

Scores come from the plain decoder over whole texts, without a cache; greedy tokens come from the engine: a replay in
the engine then also holds the one against the other. All prompts are one packed row, so a large model reads its
weights once for them, and then once for every greedy token of all of them. Everything is float32.

Shapes: T tokens of all prompts, D width, V vocabulary, R, K as in `evidence.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from rhapsode.conformance.cases import Asked, questions
from rhapsode.conformance.evidence import (
    LAST,
    MOST_CHARS,
    MOST_IDS,
    TOP,
    Case,
    Evidence,
    TopScores,
    Vectors,
    explain,
    write_evidence,
)
from rhapsode.conformance.words import marks, words
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.engine.config import EngineConfig
from rhapsode.engine.engine import Engine
from rhapsode.engine.output import Scored
from rhapsode.engine.sampling import Sampling
from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder
from rhapsode.text.chat import render
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import read_model, read_spec, stop_tokens

LONGEST_PROMPT = 128
GREEDY = 16
DATED = "strftime_now"
"""What a template calls to write today's date."""
DIGITS = 6
"""Decimals of what is written as text."""
ROWS = 32
"""Rows of the vocabulary projection at a time: all of them can be larger than the model."""


def add_conformance(directory: Path, *, events: Events | None = None, model: Decoder | None = None) -> None:
    """Make `directory/conformance/`; of a model that does not write there is no evidence, as there are no words.

    Args:
        directory: a model directory that need not have a manifest yet.
        model: its decoder in float32, where the caller has it in memory already; else it is read from the directory,
            and the evidence is then of what lies on the disk.

    Raises:
        RhapsodeError: the directory is not a model, its tokenizer has tokens that the model lacks, or the model
            computes what is not a finite number.
        OSError: what the system said, for example that the disk is full.
    """
    events = events or Events()
    if read_spec(directory).head is not None:
        return
    events.emit("progress", stage="evidence", done=0, total=2, unit="steps")
    tokenizer = Tokenizer.load(directory)
    model = read_model(directory) if model is None else model.eval()
    assert (model.embedding.weight.dtype, model.embedding.weight.device.type) == (torch.float32, "cpu")
    if tokenizer.rows_needed > model.spec.vocab_size:
        raise RhapsodeError(
            f"{directory}: the tokenizer has {tokenizer.rows_needed:,} tokens, the model {model.spec.vocab_size:,}",
            "put the tokenizer beside the model that it was trained with",
        )
    events.emit("progress", stage="evidence", done=1, total=2, unit="steps")
    try:
        evidence = make_evidence(model, tokenizer, stops=stop_tokens(directory))
    except ValidationError as error:  # a directory from elsewhere may name a thousand end tokens
        raise explain(error, where=str(directory)) from None
    if tokenizer.has_chat_template and not any(case.messages for case in evidence.vectors.cases):
        events.emit(
            "warning", message=f"{directory.name}: its chat template takes none of the conversations of the evidence"
        )
    write_evidence(directory, evidence)
    events.emit("progress", stage="evidence", done=2, total=2, unit="steps")


def make_evidence(model: Decoder, tokenizer: Tokenizer, *, stops: Sequence[int]) -> Evidence:
    """Ask the model everything, as it is in memory."""
    longest = max(1, min(LONGEST_PROMPT, model.spec.context // 2))
    drafts = [draft for asked in questions(tokenizer) if (draft := _draft(asked, tokenizer)) is not None]
    prompts = [case.ids[:longest] for case, _ in drafts if case.ids]
    scores = dense_scores(model, prompts, num_ids=tokenizer.vocab_size)
    spoken = [case.ids[:longest] for case, is_spoken in drafts if is_spoken]
    n = min(GREEDY, model.spec.context - longest)
    heard = iter(_greedy(model, spoken, n=n, num_ids=tokenizer.vocab_size))
    vectors = Vectors(
        longest=longest,
        vocabulary=tokenizer.vocab_size,
        prefix=tuple(tokenizer.prefix),
        stops=tuple(stops),
        is_dated=DATED in tokenizer.chat_template,
        words=marks(map(tokenizer.prefix.__add__, tokenizer.encode_batch(words(tokenizer)))),
        cases=tuple(
            _answered(case, next(heard), tokenizer, stops=stops) if is_spoken else case for case, is_spoken in drafts
        ),
    )
    return Evidence(vectors, scores)


@torch.inference_mode()
def dense_scores(model: Decoder, prompts: Sequence[Sequence[int]], *, num_ids: int) -> TopScores:
    """The best scores of the last positions of every prompt, among the first `num_ids` of the vocabulary.

    Raises:
        RhapsodeError: one of them is not a finite number.
    """
    lengths = [len(prompt) for prompt in prompts]
    ids_1T = torch.tensor([[token for prompt in prompts for token in prompt]])
    positions_1T = torch.cat([torch.arange(length) for length in lengths])[None]
    documents_1T = torch.repeat_interleave(torch.arange(1, len(prompts) + 1), torch.tensor(lengths))[None]
    hidden_TD = model(ids_1T, positions_1T, attend=DenseAttend(documents_1T, dtype=torch.float32))[0]
    chosen_RD = torch.cat([part[-LAST:] for part in hidden_TD.split(lengths)])
    rows = [_top_scores(model.logits(part_RD)[:, :num_ids]) for part_RD in chosen_RD.split(ROWS)]
    return TopScores(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def _top_scores(scores_RV: Tensor) -> TopScores:
    if not torch.isfinite(scores_RV).all():
        raise RhapsodeError(
            "the model gives scores that are not finite numbers, so there is no evidence of it",
            "its weights are damaged, or need more range than float32 has",
        )
    best = scores_RV.topk(min(TOP, scores_RV.shape[-1]))
    return TopScores(best.indices.int().numpy(), best.values.numpy(), scores_RV.logsumexp(-1).numpy())


class _Draft(NamedTuple):
    """A case as far as the tokenizer goes."""

    case: Case
    is_spoken: bool


def _draft(asked: Asked, tokenizer: Tokenizer) -> _Draft | None:
    """None where the template refuses the conversation, as some do, or makes a book of it."""
    if asked.text is not None:
        ids = tokenizer.ids(asked.text)
    else:
        try:
            ids = render(asked.messages, tokenizer=tokenizer, add_generation_prompt=True).ids
        except RhapsodeError:
            return None
    if len(ids) > MOST_IDS:
        return None
    case = Case(text=asked.text, messages=asked.messages, ids=tuple(ids), is_look_alike=asked.is_look_alike)
    return _Draft(case, asked.is_spoken and bool(ids))


def _greedy(model: Decoder, prompts: Sequence[Sequence[int]], *, n: int, num_ids: int) -> list[list[Scored]]:
    """The `n` likeliest tokens after every prompt, with the second best of each."""
    spoken: list[list[Scored]] = [[] for _ in prompts]
    if n < 1:
        return spoken
    longest = max(map(len, prompts)) + n
    config = EngineConfig(context=longest, max_requests=len(prompts), tokens_per_step=max(512, len(prompts)))
    engine = Engine(model, config=config, stop_ids=frozenset(), num_ids=num_ids)
    for index, output in engine.generate(prompts, Sampling(max_tokens=n, temperature=0, logprobs=2)):
        if output.error is not None:
            raise output.error
        if output.scored is not None:
            spoken[index].append(output.scored)
    return spoken


def _answered(case: Case, spoken: Sequence[Scored], tokenizer: Tokenizer, *, stops: Sequence[int]) -> Case:
    greedy = tuple(scored.token for scored in spoken)
    end = next((place for place, token in enumerate(greedy) if token in stops), len(greedy))
    return case.model_copy(
        update={
            "greedy": greedy,
            "logprobs": tuple(round(scored.top[0].logprob, DIGITS) for scored in spoken),
            "gaps": tuple(round(scored.top[0].logprob - scored.top[-1].logprob, DIGITS) for scored in spoken),
            "says": tokenizer.decode(greedy[:end])[:MOST_CHARS],
        }
    )
