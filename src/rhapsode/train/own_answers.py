"""Steps that learn from what the model itself answers, among those that learn from given answers.

What a student says is not what its teacher would have said, and only there does it meet its own mistakes: the teacher
then judges every token of the student's answers (GKD, Agarwal et al. 2023, arXiv:2306.13649, where the share is
lambda). Answers are sampled at temperature 1 to the prompts of the rows that the step would have learned from.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rhapsode.corpus.packing import Packing
from rhapsode.corpus.tokens import TokenSplit
from rhapsode.evaluate.items import Item
from rhapsode.train.loader import Batches
from rhapsode.train.objective import Batch
from rhapsode.train.plan import TrainPlan
from rhapsode.train.rollouts import Answerer, Asking, Rollouts


class OwnAnswers:
    """The batches of `given`; in a share of the steps the model's answers stand in place of those in its rows.

    Args:
        asked: what each packed row asks.
        share: of the steps, spread evenly over them.
    """

    def __init__(self, given: Batches, rollouts: Rollouts, *, asked: Sequence[Sequence[Item]], share: float) -> None:
        self._given, self._rollouts, self._asked, self._share = given, rollouts, asked, share
        self.measures: Mapping[str, float] = MappingProxyType({})

    def rows_of(self, place: int) -> list[int]:
        """The packed rows of a step, whoever has answered."""
        return self._given.rows_of(place)

    def __call__(self, place: int) -> Batch:
        items = [item for row in self.rows_of(place) for item in self._asked[row]] if self._is_own(place) else []
        if not items:  # rows that ask for nothing in words are learned from as they are
            self.measures = {"own": 0.0}
            return self._given(place)
        groups = self._rollouts.ask(place, items)
        self.measures = {"own": 1.0, **self._rollouts.measures}
        return self._rollouts.lay_out(groups)

    def _is_own(self, place: int) -> bool:
        """Step 1 is, and from there on they come evenly: a forecast of some steps has met both kinds."""
        return math.ceil(place * self._share) > math.ceil((place - 1) * self._share)


def own_answers(
    plan: TrainPlan, given: Batches, ask: Answerer, items: Sequence[Item], *, split: TokenSplit, packing: Packing
) -> OwnAnswers:
    """As the plan's objective says; `items` are those that the rows of `packing` ask."""
    own = plan.objective["own"]
    # rows are counted here, and not prompts
    asking = Asking(prompts=0, answers=1, max_tokens=own["max_tokens"], temperature=1.0)
    by_id = {item.id: item for item in items}
    asked = [_asked(split, packing, row, by_id) for row in range(packing.num_rows)]
    rollouts = Rollouts(ask, items, asking=asking, seed=plan.order_seed)
    return OwnAnswers(given, rollouts, asked=asked, share=own["share"])


def _asked(split: TokenSplit, packing: Packing, row: int, items: Mapping[str, Item]) -> list[Item]:
    names = dict.fromkeys(split.document_id(piece.document) for piece in packing.row(row))
    return [items[name] for name in names if name in items]
