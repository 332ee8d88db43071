"""Distillation: a student learns the whole distribution of a teacher, not only the token that was drawn from it.

The generalised Jensen-Shannon divergence of GKD (Agarwal et al. 2023, arXiv:2306.13649; see `kernels/divergence.py`),
on the teacher's answers or on the student's own; a share of the ordinary next-token loss may stand beside it
(Hinton et al. 2015, arXiv:1503.02531). The loss is summed over tokens.
"""

from torch import Tensor

from rhapsode.kernels.cross_entropy import IGNORE, chunked_cross_entropy
from rhapsode.kernels.divergence import chunked_divergence
from rhapsode.kernels.scores import Projection
from rhapsode.train.objectives.loss import Loss


def distil(
    student: Projection, teacher: Projection, targets: Tensor, *, beta: float, temperature: float, next_token: float
) -> Loss:
    """Where a target is not IGNORE: how far the student's next token is from the teacher's.

    Args:
        student, teacher: hidden states [..., D] of the same tokens in one vocabulary; widths may differ. Rows that only
            one of the projections has pad it, as models of one family often differ in: no token uses them.
        targets: [...], the tokens that stand there.
        beta: 0 the forward divergence, which covers all that the teacher would say; 1 the reverse one, which avoids
            what it would not; between them the Jensen-Shannon divergence.
        next_token: the share of the next-token loss in the whole, from 0 to 1.
    """
    targets = targets.flatten()
    kept = (targets != IGNORE).nonzero().squeeze(1)
    student, teacher = (x._replace(hidden=x.hidden.flatten(0, -2).index_select(0, kept)) for x in (student, teacher))
    known = min(len(student.weight), len(teacher.weight))
    divergence = chunked_divergence(
        _cut(student, known), _cut(teacher, known), beta=beta, temperature=temperature
    ).sum()
    measures = {"divergence": divergence.detach()}
    if not next_token:
        return Loss(divergence, len(kept), measures)
    hard = chunked_cross_entropy(student.hidden, student.weight, targets[kept], softcap=student.softcap).total
    measures["next_token"] = hard.detach()
    return Loss((1 - next_token) * divergence + next_token * hard, len(kept), measures)


def _cut(projection: Projection, rows: int) -> Projection:
    """A slice would cost a gradient of all rows; mostly there is nothing to cut."""
    return projection if len(projection.weight) == rows else projection._replace(weight=projection.weight[:rows])
