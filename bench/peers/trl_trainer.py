"""TRL's SFTTrainer, whose own loop runs in a thread that waits before every step until it is asked for one.

    trl           padded rows
    trl-packed    the sequences of a micro-batch end to end, without padding; positions that begin anew keep attention
                  within each of them, also on a CPU
    trl-shipped   padded rows, with the gradient checkpointing that it comes with: less memory, more time

Its loss never makes the scores of positions that are not learned, and of the others some at a time.
"""

import functools
import itertools
import queue
import tempfile
import threading
from typing import Any

import torch
from arena.examples import CPU, Contest, examples_of, order_of, shared_out
from arena.figures import peak_memory
from arena.turns import Running, Step

from peers.peft_loop import How, adapted
from rhapsode.kernels.allocator import keep_freed_memory
from rhapsode.recipe.plan import Plan

KINDS = ("trl", "trl-packed", "trl-shipped")


def start(contest: Contest, how: How) -> Running:
    torch.set_num_threads(contest.threads)
    if how.allocator == "ours":
        keep_freed_memory()
    plan = contest.plan()
    steps = [examples_of(plan, chosen) for chosen in itertools.islice(order_of(plan), contest.steps)]
    count = max(1, round(sum(map(len, steps)) / len(steps) / how.rows))
    paced = _Paced(_trainer(plan, how, [shared_out(step, count) for step in steps]), threads=contest.threads)
    sizes = iter([len(step) for step in steps])

    def step() -> Step:
        return Step(next(sizes), paced())

    return Running(step, functools.partial(peak_memory, CPU))


def _trainer(plan: Plan, how: How, steps: list[list[list[Any]]]) -> Any:
    """`steps` are micro-batches of examples, equally many in each."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        bf16=how.weights == "autocast",
        gradient_checkpointing=how.peer == "trl-shipped",
        padding_free=how.peer == "trl-packed",
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        per_device_train_batch_size=1,  # a row of the data set is a micro-batch
        gradient_accumulation_steps=len(steps[0]),
        train_sampling_strategy="sequential",
        max_steps=len(steps),
        learning_rate=plan.train.learning_rate,
        weight_decay=plan.train.weight_decay,
        max_grad_norm=plan.train.clip,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    batches = [batch for step in steps for batch in step]
    rows = {"input_ids": [[e.ids for e in batch] for batch in batches]}
    rows["labels"] = [[e.labels for e in batch] for batch in batches]
    tokenizer = AutoTokenizer.from_pretrained(plan.base_directory)
    trainer = SFTTrainer(adapted(plan, how), config, train_dataset=Dataset.from_dict(rows), processing_class=tokenizer)
    collate = trainer.data_collator

    def taken_apart(rows: list[dict[str, Any]]) -> Any:
        [row] = rows
        pairs = zip(row["input_ids"], row["labels"], strict=True)
        return collate([{"input_ids": ids, "labels": labels} for ids, labels in pairs])

    trainer.data_collator = taken_apart
    return trainer


class _Paced:
    """A trainer whose loop goes on by one step a call, which gives the loss of that step."""

    def __init__(self, trainer: Any, *, threads: int) -> None:
        from transformers import TrainerCallback

        asked: queue.Queue[None] = queue.Queue()
        done: queue.Queue[float | BaseException] = queue.Queue()
        losses: list[float] = []
        compute = trainer.training_step

        class Pace(TrainerCallback):  # type: ignore[misc]
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                asked.get()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                done.put(sum(losses))
                losses.clear()

        def heard(*given: Any, **named: Any) -> Any:
            loss = compute(*given, **named)
            losses.append(float(loss))
            return loss

        def train() -> None:
            torch.set_num_threads(threads)  # OpenMP keeps this number for each thread by itself
            try:
                trainer.train()
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
                done.put(error)

        trainer.training_step = heard
        trainer.add_callback(Pace())
        self._asked, self._done = asked, done
        threading.Thread(target=train, daemon=True).start()

    def __call__(self) -> float:
        self._asked.put(None)
        found = self._done.get()
        if isinstance(found, BaseException):
            raise found
        return found
