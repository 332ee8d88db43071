"""Examples a second and peak memory of tuning an adapter beside peft, on the same examples in the same order.

python bench/tuning.py recipes/support-intents.yaml                   # any recipe with data.examples and train.adapter
python bench/tuning.py RECIPE --weights bf16 autocast --rows 4 --rounds 5 --steps 2
"""

import argparse
import functools
import itertools
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from arena.figures import keep, peak_memory, provenance, spread
from arena.turns import Meeting, Running, Side, Step, meet
from torch import Tensor

from rhapsode.core.events import Events
from rhapsode.corpus.tokens import TokenSplit
from rhapsode.kernels.allocator import keep_freed_memory
from rhapsode.kernels.waiting import SPINS
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.plan import Plan, make_plan
from rhapsode.train.loader import Loader
from rhapsode.train.trainer import Trainer

CPU = torch.device("cpu")
IGNORE = -100


class Contest(NamedTuple):
    """What both sides are told: a recipe with its changes, where its tokens lie, and how many threads there are."""

    recipe: Path
    changes: tuple[str, ...]
    out: Path
    threads: int

    def plan(self) -> Plan:
        alike = ["train.budget=100000 steps", "train.warmup=0", "train.decay=0"]
        loaded = load_recipe(self.recipe, [*self.changes, *alike])
        return make_plan(loaded, layout=Layout(self.out), events=Events())


class Theirs(NamedTuple):
    """How the peer is run: weights in bf16 or float32 under autocast, padded rows at once, whose allocator settings."""

    weights: str
    rows: int
    allocator: str


def start_ours(contest: Contest) -> Running:
    torch.set_num_threads(contest.threads)
    plan = contest.plan()
    trainer = Trainer(plan.train, plan.data, device=CPU, base=plan.base_directory)
    order = _order_of(plan)

    def step() -> Step:
        count = len(next(order))
        return Step(count, trainer.step().loss)

    return Running(step, functools.partial(peak_memory, CPU))


def start_theirs(contest: Contest, how: Theirs) -> Running:
    """peft as its documentation shows it: padded rows, labels that are ignored at prompts, the model's own loss."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(contest.threads)
    if how.allocator == "ours":
        keep_freed_memory()
    plan = contest.plan()
    spec = plan.train.adapter
    assert spec is not None, "the recipe trains an adapter"
    dtype = torch.bfloat16 if how.weights == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(plan.base_directory, dtype=dtype)
    config = LoraConfig(r=spec.rank, lora_alpha=spec.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, config).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=plan.train.learning_rate, weight_decay=plan.train.weight_decay, fused=True
    )
    order = _order_of(plan)
    split, pad = plan.data.tokens.split("train"), plan.data.tokenizer.pad

    def step() -> Step:
        chosen = next(order)
        learned = sum(int(_learned(split, index)[1:].sum()) for index in chosen)
        total = 0.0
        for at in range(0, len(chosen), how.rows):
            ids, mask, labels = _padded(split, chosen[at : at + how.rows], pad=pad)
            with torch.autocast("cpu", torch.bfloat16, enabled=how.weights == "autocast"):
                loss = model(input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=learned).loss
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(trained, plan.train.clip)
        optimizer.step()
        optimizer.zero_grad()
        return Step(len(chosen), total)

    return Running(step, functools.partial(peak_memory, CPU))


def _order_of(plan: Plan) -> Iterator[list[int]]:
    """The sequences of our steps, without a model."""
    load = Loader(
        plan.data.tokens.split("train"),
        plan.data.training,
        rows=plan.train.batch_rows,
        seed=plan.train.order_seed,
        pad=plan.data.tokenizer.pad,
        begin=plan.train.begin,
        device=CPU,
    )
    return (_of_rows(plan, load.rows_of(step)) for step in itertools.count())


def _of_rows(plan: Plan, rows: Sequence[int]) -> list[int]:
    return [piece.document for row in rows for piece in plan.data.training.row(row)]


def _learned(split: TokenSplit, index: int) -> Tensor:
    found = split.learned(index)
    assert found is not None, "examples say what is learned"
    return torch.tensor(found.tolist())


def _padded(split: TokenSplit, chosen: Sequence[int], *, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """[B,T] ids, attention mask and labels, as long as the longest."""
    sequences = [torch.tensor(split.document(index).tolist()) for index in chosen]
    labels = [ids.where(_learned(split, index), IGNORE) for ids, index in zip(sequences, chosen, strict=True)]
    masks = [torch.ones_like(ids) for ids in sequences]
    stack = functools.partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    return stack(sequences, padding_value=pad), stack(masks), stack(labels, padding_value=IGNORE)


def contest(options: argparse.Namespace, given: Contest, how: Theirs) -> Meeting:
    sides: list[Side] = []
    try:
        spins = {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPINS)}
        sides.append(Side(functools.partial(start_ours, given), environment=spins))
        sides.append(Side(functools.partial(start_theirs, given, how), environment={}))
        return meet(*sides, rounds=options.rounds, steps=options.steps, warmup=options.warmup, unit="examples/s")
    finally:
        for side in sides:
            side.stop()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    given = Contest(options.recipe, tuple(options.set), options.out, options.threads)
    plan = given.plan().train
    size = f"{plan.spec.parameters / 1e6:.0f}M parameters"
    print(f"{size}, {plan.adapter}, {plan.batch_rows} x {plan.context} tokens a step\n")
    print("| peft: weights | rows | allocator | ours, examples/s | peft | ratio | memory MB | share | loss |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    record: dict[str, Any] = provenance("tuning", device=CPU, threads=options.threads)
    for how in itertools.starmap(Theirs, itertools.product(options.weights, options.rows, options.allocator)):
        found = contest(options, given, how)
        memory = [turns[-1].memory / 1e6 for turns in (found.ours, found.theirs)]
        speeds = [spread([turn.speed for turn in turns], 2) for turns in (found.ours, found.theirs)]
        losses = [statistics.fmean(turn.loss for turn in turns) for turns in (found.ours, found.theirs)]
        cells = [how.weights, str(how.rows), how.allocator, *speeds, spread(found.ratios, 2)]
        cells += [
            f"{memory[0]:.0f} / {memory[1]:.0f}",
            f"{memory[0] / memory[1]:.0%}",
            " / ".join(f"{x:.3f}" for x in losses),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
        sides = {"ours": [t._asdict() for t in found.ours], "theirs": [t._asdict() for t in found.theirs]}
        keep({**record, "how": how._asdict(), **sides, "ratios": found.ratios}, options.results)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe, as rhapsode's --set")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--weights", nargs="+", choices=("bf16", "autocast"), default=["bf16", "autocast"])
    parser.add_argument("--rows", nargs="+", type=int, default=[4], help="sequences that peft computes at once")
    parser.add_argument("--allocator", nargs="+", choices=("shipped", "ours"), default=["shipped"])
    for name, default in {"rounds": 4, "steps": 2, "warmup": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path("out/bench/tuning.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
