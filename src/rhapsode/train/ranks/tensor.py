"""Every product of a decoder divided among the ranks of a row (Shoeybi et al. 2019, arXiv:1909.08053).

Each rank has a narrower decoder, with heads and inner numbers of its own. The residual stream is the same on all of
them: what their blocks write is added up on the way there, and what their blocks pass back is added up on the way
back. Embedding and projection are whole on every rank. To compute neither the loss nor a gradient twice, each takes
its share of the positions from the projection, and counts its share of the gradient that reaches the embedding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.decoder import Decoder
from rhapsode.train.objective import Batch, Objective
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.ranks.ranks import Grid, share_of


class _Enter(torch.autograd.Function):
    """The same there; gradients are added up on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _added(grads[0], ctx.group), None


class _Leave(torch.autograd.Function):
    """Added up on the way there; gradients are the same on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:  # noqa: ARG004 - torch's signature
        return _added(x, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004 - torch's signature
        return grads[0], None


def divide(model: Decoder, *, group: dist.ProcessGroup) -> None:
    """Let the narrower decoders of a group compute together what the whole one does."""

    def enter(x: Tensor) -> Tensor:
        out: Tensor = _Enter.apply(x, group)  # type: ignore[no-untyped-call]
        return out

    def leave(x: Tensor) -> Tensor:
        out: Tensor = _Leave.apply(x, group)  # type: ignore[no-untyped-call]
        return out

    for block in model.layers:
        for module in map(block.get_submodule, ("attention", "ffn")):
            module.register_forward_pre_hook(lambda _, given: (enter(given[0]), *given[1:]))
            module.register_forward_hook(lambda _, given, out: leave(out))  # noqa: ARG005 - torch's signature
    _on_the_way_back(model.norm, lambda grad: _added(grad, group))
    for embedding in (model.embedding, model.positions):
        if embedding is not None:  # all have the same gradient here, and it will be added up
            _on_the_way_back(embedding, lambda grad: grad / group.size())


class OwnPositions:
    """An objective of which this rank computes its share of the targets; a look has all of them on every rank."""

    def __init__(self, objective: Objective, grid: Grid) -> None:
        self._objective, self._grid, self.__name__ = objective, grid, objective.__name__
        self.measures = objective.measures

    def begin(self, model: Decoder, step: Sequence[Batch]) -> None:
        self._objective.begin(model, step)

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        if torch.is_grad_enabled():
            batch = batch._replace(targets=self._own(batch.targets))
        return self._objective(model, batch)

    def _own(self, targets: Tensor) -> Tensor:
        mine = share_of(targets.numel(), rank=self._grid.column, size=self._grid.tensor)
        own = torch.full_like(targets, IGNORE)
        own.view(-1)[mine] = targets.view(-1)[mine]
        return own


def _on_the_way_back(module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Change the gradient of what a module gives."""

    def hook(_: nn.Module, given: tuple[Tensor], out: Tensor) -> None:  # noqa: ARG001 - torch's signature
        if out.requires_grad:
            out.register_hook(change)

    module.register_forward_hook(hook)


def _added(part: Tensor, group: dist.ProcessGroup) -> Tensor:
    total = part.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total
