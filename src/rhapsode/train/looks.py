"""A look at the model while it is trained: bits per byte of held-out documents, and how it goes on from some prompts.

Nothing of it touches the training: no weight, no state of a random generator, no row of the training data. The words
are drawn with a seed, so they differ from look to look only because the model does.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.corpus.tokens import TokenSplit
from rhapsode.engine.completion import Completion
from rhapsode.engine.config import EngineConfig
from rhapsode.engine.engine import Engine
from rhapsode.engine.sampling import Sampling
from rhapsode.model.decoder import Decoder
from rhapsode.text.chat import question_ids
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.objective import next_token
from rhapsode.train.objectives.config import BY_TOKEN
from rhapsode.train.objectives.registry import samples_answers
from rhapsode.train.plan import TrainPlan
from rhapsode.train.rewards import HeldOutReward
from rhapsode.train.trainer import Data, Trainer
from rhapsode.train.validation import Validation

NEW_TOKENS = 32
OPENING_TOKENS = 16
"""Of a held-out document that the model goes on with."""
TEMPERATURE = 0.6


class Prompt(NamedTuple):
    """What the model reads, and the same as text."""

    ids: list[int]
    text: str


class Looks:
    """Emits "validation", where answers are judged "rewarded", and where the plan wants samples, "samples"."""

    def __init__(self, plan: TrainPlan, data: Data, events: Events) -> None:
        held_out = data.tokens.split("validation")
        self._plan, self._tokenizer, self._events = plan, data.tokenizer, events
        self._validate = Validation(
            held_out,
            context=plan.context,
            tokenizer=data.tokenizer,
            max_tokens=plan.validation_tokens,
            rows=plan.micro_batch_rows,
            begin=plan.begin,
            is_shared=plan.objective["name"] in BY_TOKEN,
            is_written=plan.spec.head is None,
        )
        self._new = min(NEW_TOKENS, plan.context // 2)
        room = plan.context - self._new - 1
        is_chat = bool(data.tokens.manifest.facts.get("chat"))
        writes = plan.spec.head is None
        self._prompts = make_prompts(plan, held_out, data.tokenizer, room=room, is_chat=is_chat) if writes else []
        self._reward = HeldOutReward(plan, data) if samples_answers(plan.objective) else None

    def __call__(self, trainer: Trainer) -> float:
        """Bits per byte over all held-out documents."""
        own = trainer.grid.is_divided or self._plan.spec.head is not None
        objective = trainer.objective if own else next_token
        step, look = trainer.state.step, self._validate(trainer.model, objective)
        unit = "bits per byte" if self._plan.spec.head is None else "bits of loss per row"
        self._events.emit(
            "validation", step=step, bits_per_byte=look.bits_per_byte, by_source=look.by_source, unit=unit
        )
        if self._reward is not None:
            self._events.emit("rewarded", step=step, **self._reward(trainer.model))
        if self._prompts and not trainer.grid.is_divided:  # an engine needs all of the weights in one place
            try:
                written = self._write(trainer.model)
            except RhapsodeError as error:
                self._events.emit("warning", message=f"step {step}: no samples, for {error.message}")
            else:
                samples = [{"prompt": p.text, "completion": c} for p, c in zip(self._prompts, written, strict=True)]
                self._events.emit("samples", step=step, samples=samples)
        return look.bits_per_byte

    def _write(self, model: Decoder) -> list[str]:
        """A completion of every prompt, by the engine that will serve the model."""
        was_training, count = model.training, len(self._prompts)
        config = EngineConfig(context=self._plan.context, max_requests=count, tokens_per_step=max(512, count))
        written = [Completion(self._tokenizer) for _ in self._prompts]
        texts = [""] * count
        try:
            # blocks that are compiled for training rows would be compiled again for every length of a prompt
            with torch.compiler.set_stance("force_eager"):
                stops = frozenset(self._plan.stops)
                engine = Engine(model, config=config, stop_ids=stops, num_ids=self._tokenizer.vocab_size)
                sampling = Sampling(max_tokens=self._new, temperature=TEMPERATURE, seed=self._plan.order_seed)
                for index, output in engine.generate([prompt.ids for prompt in self._prompts], sampling):
                    texts[index] += written[index].push(output).text
        finally:
            model.train(was_training)
        return texts


def make_prompts(
    plan: TrainPlan, held_out: TokenSplit, tokenizer: Tokenizer, *, room: int, is_chat: bool = False
) -> list[Prompt]:
    """`plan.samples` prompts, at most `room` tokens long: the recipe's, then beginnings of held-out documents.

    Args:
        is_chat: the model learns to answer messages, so that the recipe's prompts are some.
    """
    asked = (question_ids(text, tokenizer=tokenizer, is_chat=is_chat) for text in plan.prompts[: plan.samples])
    own = [ids[-room:] for ids in asked]
    openings = _openings(held_out, count=plan.samples - len(own), length=min(OPENING_TOKENS, room))
    texts = [*plan.prompts[: plan.samples], *(tokenizer.decode(ids, errors="ignore") for ids in openings)]
    prompts = [Prompt(ids, text) for ids, text in zip([*own, *openings], texts, strict=True)]
    return [prompt for prompt in prompts if prompt.ids]


def _openings(held_out: TokenSplit, *, count: int, length: int) -> Sequence[list[int]]:
    """Beginnings of documents that go on after them, spread evenly; of examples, what is asked."""
    if held_out.is_learned_in_part:
        return _questions(held_out, count=count)
    long_enough = [index for index, size in enumerate(held_out.lengths.tolist()) if size > length + 1]
    step = max(1, len(long_enough) // max(1, count))
    return [held_out.document(index)[:length].tolist() for index in long_enough[::step][: max(0, count)]]


def _questions(held_out: TokenSplit, *, count: int) -> list[list[int]]:
    """All before the first learned token, of sequences spread evenly."""
    step = max(1, held_out.num_documents // max(1, count))
    chosen = list(range(0, held_out.num_documents, step))[: max(0, count)]
    found = []
    for index in chosen:
        learned = held_out.learned(index)
        assert learned is not None, "examples say what is learned"
        found.append(held_out.document(index)[: int(learned.argmax())].tolist())
    return found
