"""A look sees every source, says how the model goes on, and leaves the training as it was."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from tests.conftest import make_texts, write_tokens
from tests.train.conftest import CONTEXT, CPU, Heard, load_data, make_plan, make_run

from rhapsode.core.events import Events
from rhapsode.core.manifest import digest
from rhapsode.text.chat import Message, render
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.looks import OPENING_TOKENS, Looks, make_prompts
from rhapsode.train.objective import next_token
from rhapsode.train.plan import TrainPlan
from rhapsode.train.trainer import Data, Trainer
from rhapsode.train.validation import MOST_SOURCES, OTHERS, Validation, documents_by_source, shares

NUMBERS = [f"{n} {n + 1} {n + 2} {n * 7}\n" * 3 for n in range(6)]


@pytest.fixture(scope="module")
def mixed(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Forty held-out documents of verses and six of numbers, in two sources."""
    path = tmp_path_factory.mktemp("mixed") / "tokens"
    verses = make_texts(40, seed=2)
    write_tokens(path, tokenizer, {"train": make_texts(80, seed=1), "validation": [*verses, *NUMBERS]})
    index = path / "validation.index.parquet"
    table = pq.read_table(index)
    places = [f"verses/{i}.txt" for i in range(40)] + [f"numbers/all.jsonl#L{i}" for i in range(6)]
    column = table.schema.get_field_index("source")
    pq.write_table(table.set_column(column, "source", [places]), index)
    return load_data(path)


def plan_for(data: Data, **changes: object) -> TrainPlan:
    return make_plan(vocab_size=data.tokenizer.vocab_size, **changes)


def validation(data: Data, *, max_tokens: int) -> Validation:
    split = data.tokens.split("validation")
    return Validation(split, context=CONTEXT, tokenizer=data.tokenizer, max_tokens=max_tokens, rows=3, begin=None)


def bits_of_everything(data: Data, trainer: Trainer, documents: list[int]) -> float:
    """Bits per byte of these documents, one at a time and each in whole."""
    split, nats, size = data.tokens.split("validation"), 0.0, 0
    from rhapsode.corpus.packing import batch, pack
    from rhapsode.train.objective import to_batch

    class One:
        def __init__(self, number: int) -> None:
            self.ids = split.document(number)

        def document(self, _: int) -> object:
            return self.ids

        def learned(self, _: int) -> None:
            return None

    for number in documents:
        packing = pack([len(split.document(number))], context=CONTEXT)
        rows = batch(One(number), packing, range(packing.num_rows), pad=data.tokenizer.pad)
        with torch.no_grad():
            nats += float(next_token(trainer.model, to_batch(rows, device=CPU)).total)
        size += split.document_bytes(number)
    return nats / size / 0.6931471805599453


def test_sources_are_told_apart_and_the_whole_is_the_whole_text(mixed: Data) -> None:
    trainer = Trainer(plan_for(mixed, precision="fp32"), mixed, device=CPU)
    for _ in range(6):
        trainer.step()
    look = validation(mixed, max_tokens=10**6)(trainer.model, next_token)
    assert list(look.by_source) == ["verses", "numbers"]
    assert look.by_source["numbers"] > look.by_source["verses"] + 0.5  # it has never read a number
    for source, documents in documents_by_source(mixed.tokens.split("validation")).items():
        assert look.by_source[source] == pytest.approx(bits_of_everything(mixed, trainer, documents), rel=1e-4)
    assert look.bits_per_byte == pytest.approx(bits_of_everything(mixed, trainer, list(range(46))), rel=1e-4)


def test_a_look_at_some_rows_is_near_the_look_at_all_and_small_sources_are_in_it(mixed: Data) -> None:
    trainer = Trainer(plan_for(mixed, precision="fp32"), mixed, device=CPU)
    for _ in range(6):
        trainer.step()
    every, some = validation(mixed, max_tokens=10**6), validation(mixed, max_tokens=16 * CONTEXT)
    assert sum(some.num_rows.values()) <= 16 < sum(every.num_rows.values())
    assert some.num_rows["numbers"] >= 4
    all_of_it, part = every(trainer.model, next_token), some(trainer.model, next_token)
    assert part.bits_per_byte == pytest.approx(all_of_it.bits_per_byte, rel=0.1)
    assert part == some(trainer.model, next_token)


@pytest.mark.parametrize(
    ("sizes", "total", "expected"),
    [
        ({"a": 100}, 30, {"a": 30}),
        ({"a": 10}, 30, {"a": 10}),
        ({"a": 1000, "b": 10}, 100, {"a": 90, "b": 10}),
        ({"a": 1000, "b": 1000}, 100, {"a": 50, "b": 50}),
        ({"a": 1000, "b": 1}, 2, {"a": 1, "b": 1}),
        ({"a": 9000, "b": 1000}, 100, {"a": 70, "b": 30}),
        ({"a": 5, "b": 5, "c": 5}, 1, {"a": 1, "b": 1, "c": 1}),
        ({"a": 5, "b": 0}, 4, {"a": 4, "b": 0}),
    ],
)
def test_rows_are_divided_half_by_size_and_half_equally(
    sizes: dict[str, int], total: int, expected: dict[str, int]
) -> None:
    assert shares(sizes, total=total) == expected


def test_many_sources_share_the_last_place() -> None:
    class Split:
        num_documents = 60

        def document_source(self, index: int) -> str:
            return f"source{index % 30}/{index}.txt"

        def document_bytes(self, index: int) -> int:
            return 1000 - index % 30

    found = documents_by_source(Split())
    assert list(found)[:2] == ["source0", "source1"]
    assert len(found) == MOST_SOURCES
    assert list(found)[-1] == OTHERS
    assert sorted(i for documents in found.values() for i in documents) == list(range(60))


def test_prompts_are_the_recipes_and_then_held_out_beginnings(mixed: Data) -> None:
    split, tokenizer = mixed.tokens.split("validation"), mixed.tokenizer
    plan = plan_for(mixed, samples=3, prompts=("sing, goddess",))
    prompts = make_prompts(plan, split, tokenizer, room=100)
    assert [prompts[0].ids, prompts[0].text] == [tokenizer.ids("sing, goddess"), "sing, goddess"]
    held_out = [split.document(i)[:OPENING_TOKENS].tolist() for i in range(split.num_documents)]
    assert len(prompts) == 3
    assert all(prompt.ids in held_out and prompt.text for prompt in prompts[1:])
    assert make_prompts(plan_for(mixed, samples=0, prompts=()), split, tokenizer, room=100) == []
    long = make_prompts(plan_for(mixed, samples=1, prompts=("sing " * 99,)), split, tokenizer, room=15)
    assert [len(prompt.ids) for prompt in long] == [15]
    (asked,) = make_prompts(plan_for(mixed, samples=1, prompts=("sing",)), split, tokenizer, room=100, is_chat=True)
    said = render([Message(role="user", content="sing")], tokenizer=tokenizer, add_generation_prompt=True)
    assert (asked.ids, asked.text) == (said.ids, "sing")


def test_a_look_tells_what_the_model_writes_and_is_the_same_twice(mixed: Data) -> None:
    heard = Heard()
    plan = plan_for(mixed, samples=2, prompts=("the fire",))
    trainer, looks = Trainer(plan, mixed, device=CPU), Looks(plan, mixed, Events(heard))
    for _ in range(8):
        trainer.step()
    random = torch.get_rng_state()
    first, second = looks(trainer), looks(trainer)
    assert first == second == heard[0].fields["bits_per_byte"]
    assert [event.kind for event in heard] == ["validation", "samples"] * 2
    assert heard[1].fields == heard[3].fields
    samples = heard[1].fields["samples"]
    assert samples[0]["prompt"] == "the fire"
    assert all(sample["completion"].strip() for sample in samples)
    assert heard[1].fields["step"] == 8
    assert (torch.get_rng_state() == random).all()


def test_samples_change_nothing_in_the_weights(mixed: Data, tmp_path: Path) -> None:
    digests = []
    for samples in (0, 3):
        plan = plan_for(mixed, samples=samples, prompts=("sing",) * bool(samples), steps=4, save_every=4)
        digests.append(digest(make_run(plan, mixed, tmp_path / str(samples))(resume=False)))
    assert digests[0] == digests[1]


def test_a_model_that_cannot_speak_is_told_and_does_not_end_the_run(mixed: Data) -> None:
    heard = Heard()
    plan = plan_for(mixed, samples=1, prompts=("the fire",))
    trainer = Trainer(plan, mixed, device=CPU)
    with torch.no_grad():
        trainer.model.norm.weight.fill_(float("inf"))
    Looks(plan, mixed, Events(heard))(trainer)
    assert [event.kind for event in heard] == ["validation", "warning"]
    assert heard[1].fields["message"].startswith("step 0: no samples, for request 0 failed")
