"""The training path, whose operators have backward passes of their own, has the gradients of plain operators."""

import copy

import pytest
import torch
import torch.nn.functional as F
from tests.conftest import positions_of, random_documents
from tests.model.conftest import ONE_OF_EACH, filled, on_disk, twin
from torch import Tensor

from rhapsode.kernels.attention import Weighing, attend_plain, document_mask
from rhapsode.kernels.cross_entropy import IGNORE, cross_entropy_plain
from rhapsode.kernels.norm import rms_norm_plain
from rhapsode.kernels.rope import Rotation, rotate_plain
from rhapsode.kernels.swiglu import swiglu_plain
from rhapsode.model import decoder, feed_forward, norms
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import FAMILIES
from rhapsode.train.objective import Batch, next_token


def gradients(model: Decoder, loss: Tensor) -> dict[str, Tensor]:
    params = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(params.values()), materialize_grads=True)
    return dict(zip(params, found, strict=True))


def plain_loss(model: Decoder, batch: Batch, patch: pytest.MonkeyPatch) -> Tensor:
    """The loss of `next_token` with nothing but torch's own operators."""

    def rotate(x: Tensor, turn: Rotation) -> Tensor:
        dims = turn.cos.shape[-1]
        return torch.cat((rotate_plain(x[..., :dims], turn), x[..., dims:]), -1)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, weighing: Weighing) -> Tensor:
        return attend_plain(q, k, v, weighing, mask=document_mask(batch.documents, window=weighing.window))

    patch.setattr(norms, "rms_norm", rms_norm_plain)
    patch.setattr(decoder, "rotate", rotate)
    patch.setattr(feed_forward, "swiglu", swiglu_plain)
    hidden = model(batch.ids, batch.positions, attend=attend).flatten(0, 1) * model.spec.logit_scale
    return cross_entropy_plain(hidden, model.head.weight, batch.targets.flatten(), softcap=model.spec.logit_softcap)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_documents_have_the_gradients_of_plain_operators(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = twin(ONE_OF_EACH[family])
    documents = random_documents((3, 30), seed=1)
    ids = torch.randint(3, 80, documents.shape, generator=torch.Generator().manual_seed(0))
    batch = Batch(ids, ids.roll(-1, 1).masked_fill(documents == 0, IGNORE), positions_of(documents), documents, ids * 0)
    ours, plain = (filled(found.ours.spec, found.tensors).double() for _ in range(2))
    fast = next_token(ours, batch)
    got = gradients(ours, fast.total)
    slow = plain_loss(plain, batch, monkeypatch)
    assert fast.num_tokens == batch.num_targets
    torch.testing.assert_close(fast.total, slow, rtol=1e-9, atol=0)
    torch.testing.assert_close(got, gradients(plain, slow), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_rows_have_the_gradients_of_transformers(family: str) -> None:
    found = twin(ONE_OF_EACH[family])
    spec, ids = found.ours.spec, found.ids
    targets = ids.roll(-1, 1).masked_fill(ids % 7 == 0, IGNORE)
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    ours = filled(spec, found.tensors)
    loss = next_token(ours, Batch(ids, targets, positions, torch.ones_like(ids), ids * 0))
    theirs = copy.deepcopy(found.theirs)
    expected = F.cross_entropy(theirs(ids).logits.flatten(0, 1), targets.flatten(), reduction="sum")
    expected.backward()
    torch.testing.assert_close(loss.total, expected, rtol=1e-5, atol=0)
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.copy_(torch.zeros_like(weight) if weight.grad is None else weight.grad)
    wanted = filled(spec, on_disk(theirs)[1])
    for name, gradient in gradients(ours, loss.total).items():
        other = wanted.get_parameter(name)
        assert torch.linalg.vector_norm(gradient - other) < 1e-3 * torch.linalg.vector_norm(other), name
