"""What ranks train that have all of a narrower decoder each (`ranks/tensor.py`), every row of them the same."""

from rhapsode.model.decoder import Decoder
from rhapsode.train.masters import WholeMasters
from rhapsode.train.ranks.pieces import Pieces
from rhapsode.train.ranks.together import add


class NarrowMasters(WholeMasters):
    """As `WholeMasters`, of this rank's pieces."""

    needs_others = True

    def __init__(self, model: Decoder, *, pieces: Pieces) -> None:
        super().__init__(model)
        self._pieces, self.places = pieces, pieces.places
        self._by_name = {w.name: grad for w, grad in zip(self.weights, self.grads, strict=True)}

    def reduce(self) -> None:
        self._pieces.complete(self._by_name)
        add(self.grads, group=self._pieces.data.get_group())

    def norm(self) -> float:
        return self._pieces.norm(self._by_name)
