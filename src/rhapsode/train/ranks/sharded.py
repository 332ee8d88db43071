"""A model of which every rank holds a share of the rows (FSDP2; Zhao et al. 2023, arXiv:2304.11277).

The float32 rows are the masters themselves: a block's parameters are gathered, in the type that computes, for as long
as the block is at work, and their gradients are summed into the rows in float32. What lies outside the blocks, the
embedding and the projection, is gathered before the objective and stays until its gradient is known.
"""

import math

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from rhapsode.kernels.cross_entropy import LossSum
from rhapsode.kernels.squares import squares
from rhapsode.model.decoder import Decoder
from rhapsode.train.masters import Rows, matrix_parts
from rhapsode.train.objective import Batch, Objective
from rhapsode.train.optimizer import Weight
from rhapsode.train.ranks.ranks import Ranks


def shard(model: Decoder, *, dtype: torch.dtype, device: torch.device) -> FSDPModule:
    """Leave of every parameter this rank's rows, in place; `dtype` is what computes."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
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

    def __init__(self, model: FSDPModule, *, ranks: Ranks) -> None:
        assert isinstance(model, Decoder)
        self._model, self._ranks = model, ranks
        self._params = {name: param for name, param in model.named_parameters() if isinstance(param, DTensor)}
        self.weights = [
            Weight(name, p.to_local().detach(), matrix_parts(name, p.shape, model.spec))
            for name, p in self._params.items()
        ]
        self.grads = [torch.zeros_like(w.value) for w in self.weights]
        self.rows = {
            name: Rows(rows_of(p.shape[0], rank=ranks.rank, size=ranks.size).start, tuple(p.shape))
            for name, p in self._params.items()
        }

    @torch.no_grad()
    def take(self, name: str, whole: Tensor) -> None:
        """Fill this rank's rows of a parameter from all of them."""
        rows = self._params[name].to_local()
        rows.copy_(whole[self.rows[name].first :][: len(rows)])

    def clear(self) -> None:
        torch._foreach_zero_(self.grads)

    def collect(self) -> None:
        for param, grad in zip(self._params.values(), self.grads, strict=True):
            if isinstance(param.grad, DTensor):
                grad.add_(param.grad.to_local())
                param.grad = None

    def reduce(self) -> None:
        """Nothing: gradients are summed over the ranks on their way into the rows."""

    def norm(self) -> float:
        return math.sqrt(self._ranks.sum([squares(self.grads)])[0])

    def publish(self) -> None:
        """What is still gathered from before is out of date."""
        for module in self._model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


class Gathered:
    """An objective that may look at all of the model, whose embedding and projection are gathered first."""

    def __init__(self, objective: Objective) -> None:
        self._objective, self.__name__ = objective, objective.__name__

    def __call__(self, model: Decoder, batch: Batch) -> LossSum:
        assert isinstance(model, FSDPModule)
        model.unshard()
        return self._objective(model, batch)


def rows_of(height: int, *, rank: int, size: int) -> range:
    """The rows of a parameter that a rank holds: as many for each, the last ones fewer or none, as FSDP2 has it."""
    chunk = -(-height // size)
    return range(min(height, rank * chunk), min(height, (rank + 1) * chunk))
