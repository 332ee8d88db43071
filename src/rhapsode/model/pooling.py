"""From the states of tokens to one state a sequence: that of its last token, or the mean of all of them.

Rows are packed: a sequence is a branch of a document, and begins with the document's trunk (branch 0), if it has one.

Shapes: B rows, T tokens, D width, S sequences.
"""

import torch
from torch import Tensor

from rhapsode.model.spec import Pooling


def pooled(
    hidden_BTD: Tensor, documents_BT: Tensor, branches_BT: Tensor, *, ends_S: Tensor, pooling: Pooling
) -> Tensor:
    """[S,D] in float32 (float64 stays).

    Args:
        ends_S: the place of each sequence's last token, counted through all rows.
    """
    hidden_ND = hidden_BTD.flatten(0, 1)
    if pooling == "last":
        return _wide(hidden_ND[ends_S])
    sums_KD, keys_K, own_S, trunk_S = _summed(hidden_ND, documents_BT, branches_BT, ends_S)
    lengths_K = torch.bincount(keys_K, minlength=len(sums_KD))
    has_trunk_S = trunk_S >= 0
    totals_SD, lengths_S = sums_KD[own_S], lengths_K[own_S]
    trunk_S = trunk_S.clamp(min=0)
    totals_SD = totals_SD + sums_KD[trunk_S] * has_trunk_S[:, None]
    return totals_SD / (lengths_S + lengths_K[trunk_S] * has_trunk_S)[:, None]


def _summed(
    hidden_ND: Tensor, documents_BT: Tensor, branches_BT: Tensor, ends_S: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums of every stretch of tokens, each token's stretch, and of each sequence its own and its trunk's, or -1."""
    rows_BT = torch.arange(len(documents_BT), device=documents_BT.device)[:, None].expand_as(documents_BT)
    most = int(branches_BT.max()) + 1
    tree_N = ((rows_BT * (int(documents_BT.max()) + 1)) + documents_BT).flatten() * most
    known_K, keys_N = torch.unique(tree_N + branches_BT.flatten(), return_inverse=True)
    sums_KD = _wide(hidden_ND).new_zeros(len(known_K), hidden_ND.shape[-1]).index_add(0, keys_N, _wide(hidden_ND))
    own_S = keys_N[ends_S]
    at_S = torch.searchsorted(known_K, tree_N[ends_S]).clamp(max=len(known_K) - 1)
    is_apart_S = (known_K[at_S] == tree_N[ends_S]) & (at_S != own_S)
    return sums_KD, keys_N, own_S, torch.where(is_apart_S, at_S, -1)


def _wide(states: Tensor) -> Tensor:
    return states.to(torch.promote_types(states.dtype, torch.float32))
