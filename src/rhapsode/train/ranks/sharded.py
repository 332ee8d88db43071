"""A model of which every rank holds a share of the rows (FSDP2; Zhao et al. 2023, arXiv:2304.11277).

The float32 rows are the masters themselves: a block's parameters are gathered, in the type that computes, for as long
as the block is at work, and their gradients are summed into the rows in float32. What lies outside the blocks, the
embedding and the projection, is gathered before the objective and stays until its gradient is known.
"""

from collections.abc import Sequence

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from rhapsode.model.decoder import Decoder
from rhapsode.train.masters import height_of
from rhapsode.train.objective import Batch, Objective
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.optimizer import Weight
from rhapsode.train.ranks.pieces import Pieces


def shard(model: Decoder, *, dtype: torch.dtype, mesh: DeviceMesh) -> FSDPModule:
    """Leave of every parameter this rank's rows, in place; `dtype` is what computes."""
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.promote_types(dtype, torch.float32))
    for block in model.layers:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    root: FSDPModule = fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # losses are sums, and so are gradients
            module.set_force_sum_reduction_for_comms(True)
    return root


class ShardedMasters:
    """This rank's rows of every parameter, and of their gradients."""

    needs_others = True

    def __init__(self, model: FSDPModule, *, pieces: Pieces) -> None:
        assert isinstance(model, Decoder)
        self._model, self._pieces, self.places = model, pieces, pieces.places
        self._params = {name: param for name, param in model.named_parameters() if isinstance(param, DTensor)}
        self.weights = [
            Weight(name, p.to_local().detach(), height_of(name, p.shape, model.spec))
            for name, p in self._params.items()
        ]
        self.grads = [torch.zeros_like(w.value) for w in self.weights]
        self._by_name = {w.name: grad for w, grad in zip(self.weights, self.grads, strict=True)}

    def clear(self) -> None:
        torch._foreach_zero_(self.grads)

    def collect(self) -> None:
        for param, grad in zip(self._params.values(), self.grads, strict=True):
            if isinstance(param.grad, DTensor):
                grad.add_(param.grad.to_local())
                param.grad = None

    def reduce(self) -> None:
        """Gradients are summed over the ranks that share rows on their way into these."""
        self._pieces.complete(self._by_name)

    def norm(self) -> float:
        return self._pieces.norm(self._by_name)

    def publish(self) -> None:
        """What is still gathered from before is out of date."""
        for module in self._model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


class Gathered:
    """An objective that may look at all of the model, whose embedding and projection are gathered first."""

    def __init__(self, objective: Objective) -> None:
        self._objective, self.__name__, self.measures = objective, objective.__name__, objective.measures

    def begin(self, model: Decoder, step: Sequence[Batch]) -> None:
        self._objective.begin(model, step)

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        assert isinstance(model, FSDPModule)
        model.unshard()
        return self._objective(model, batch)
