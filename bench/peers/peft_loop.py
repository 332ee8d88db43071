"""peft as its documentation shows it, in the loop that people write.

Padded rows, labels that are ignored at prompts, the model's own loss over all positions, a fused AdamW.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from arena.examples import CPU, IGNORE, Contest, Example, examples_of, order_of, shared_out
from arena.figures import peak_memory
from arena.turns import Running, Step
from torch import Tensor

from rhapsode.kernels.allocator import keep_freed_memory
from rhapsode.recipe.plan import Plan


class How(NamedTuple):
    """How a peer is run.

    Attributes:
        peer: peft, or TRL's trainer (`trl_trainer.py`).
        weights: bf16, or autocast over float32.
        rows: sequences computed at once, about.
        allocator: whose settings.
    """

    peer: str
    weights: str
    rows: int
    allocator: str

    @property
    def name(self) -> str:
        return ":".join(map(str, self))


def adapted(plan: Plan, how: How) -> Any:
    """The base with peft's adapter, ready to be trained."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    spec = plan.train.adapter
    assert spec is not None, "the recipe trains an adapter"
    dtype = torch.bfloat16 if how.weights == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(plan.base_directory, dtype=dtype)
    targets = "all-linear" if spec.targets == ("all-linear",) else list(spec.targets)
    config = LoraConfig(r=spec.rank, lora_alpha=spec.alpha, target_modules=targets, task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def start(contest: Contest, how: How) -> Running:
    torch.set_num_threads(contest.threads)
    if how.allocator == "ours":
        keep_freed_memory()
    plan = contest.plan()
    model = adapted(plan, how).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=plan.train.learning_rate, weight_decay=plan.train.weight_decay, fused=True
    )
    order, pad = order_of(plan), plan.data.tokenizer.pad

    def step() -> Step:
        examples = examples_of(plan, next(order))
        learned = sum(label != IGNORE for example in examples for label in example.labels[1:])
        total = 0.0
        for batch in shared_out(examples, max(1, round(len(examples) / how.rows))):
            ids, mask, labels = _padded(batch, pad=pad)
            with torch.autocast("cpu", torch.bfloat16, enabled=how.weights == "autocast"):
                loss = model(input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=learned).loss
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(trained, plan.train.clip)
        optimizer.step()
        optimizer.zero_grad()
        return Step(len(examples), total)

    return Running(step, functools.partial(peak_memory, CPU))


def _padded(batch: Sequence[Example], *, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """[B,T] ids, attention mask and labels, as long as the longest."""
    ids, labels = ([torch.tensor(row) for row in rows] for rows in zip(*batch, strict=True))
    stack = functools.partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    masks = [torch.ones_like(row) for row in ids]
    return stack(ids, padding_value=pad), stack(masks), stack(labels, padding_value=IGNORE)
