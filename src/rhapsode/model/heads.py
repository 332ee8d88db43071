"""A head upon a decoder that has been read: what classifies, rewards or embeds begins as a model that writes."""

import torch
from torch import nn

from rhapsode.model.decoder import Decoder
from rhapsode.model.linear import Linear
from rhapsode.model.spec import ModelSpec


def put_head(model: Decoder, spec: ModelSpec) -> None:
    """Give the model, in place, the head of `spec`; one that it has already stays as it is.

    A new head begins at zero: every label is as likely, and every reward nothing, whatever the size of the states.
    """
    if model.spec.head == spec.head:
        return
    if model.spec.num_scores:
        del model.head
    if spec.num_scores:
        beside = model.embedding.weight
        model.head = Linear(spec.width, spec.num_scores, bias=False)
        model.head.weight = nn.Parameter(
            torch.zeros(spec.num_scores, spec.width, dtype=beside.dtype, device=beside.device)
        )
    model.spec = spec
