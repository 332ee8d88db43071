"""What a GGUF file says about its model, read key by key. A key that nobody read is not understood, and is named.

The names of keys begin with that of the architecture; here they are written without it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhapsode.core.errors import RhapsodeError

Vector = NDArray[np.float32]

LARGEST = 2**31 - 1
MOST_LAYERS = 1024
LONGEST_VECTOR = 2**16

# what tensors say better: the size of a vocabulary is its embedding's, StableLM's blocks have one norm or two
HARMLESS = frozenset({"vocab_size", "use_parallel_residual", "tensor_data_layout"})
# what may only say that nothing is done
NOTHING: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "nextn_predict_layers": (0,),
    "pooling_type": (0,),
    "rope.scaling.finetuned": (True, False),
}


class Facts:
    """The metadata and the shapes of the tensors of one file, seen as one architecture.

    Args:
        metadata: key -> value.
        shapes: tensor -> shape, rows first.
        vectors: gives the numbers of a vector.
        where: the file, to begin messages with.
    """

    def __init__(
        self,
        metadata: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        *,
        vectors: Callable[[str], Vector],
        where: str,
    ) -> None:
        self._metadata, self.shapes, self._vectors, self._where = metadata, shapes, vectors, where
        self._read: set[str] = set()
        self.vectors_read: set[str] = set()
        architecture = metadata.get("general.architecture")
        if not isinstance(architecture, str):
            raise self.wrong("it lacks the key 'general.architecture'", "the file is not a model")
        self.architecture = architecture

    def has(self, key: str) -> bool:
        """Whether the file says anything under `key`."""
        return self._name(key) in self._metadata

    def whole(self, key: str, default: int | None = None, *, low: int = 1, high: int = LARGEST) -> int:
        """A whole number within bounds; a list of one number a layer counts as that number where all are the same.

        Raises:
            RhapsodeError: it is absent without a default, or something else.
        """
        value = self._single(key, default)
        if type(value) is not int or not low <= value <= high:
            raise self.bad(key, value, f"a whole number from {low} to {high}")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A number above zero, as short as it was before it became 32 bits. Raises as `whole`."""
        value = self._single(key, default)
        if type(value) not in (int, float) or not 0 < value < 1e30:
            raise self.bad(key, value, "a number above zero")
        return shortest(value)

    def text(self, key: str, default: str) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.bad(key, value, "a text")
        return value

    def flags(self, key: str, count: int) -> list[bool] | None:
        """One flag a layer, or None where the file has no such list."""
        if not self.has(key) or not isinstance(self._get(key, None), list):
            return None
        value = self._get(key, None)
        if len(value) != count or any(not isinstance(flag, bool) for flag in value):
            raise self.bad(key, value, f"{count} times true or false")
        return list(value)

    def layers(self) -> int:
        """How many blocks there are; a file that announces more than it has tensors for is refused early."""
        count = self.whole("block_count", high=MOST_LAYERS)
        if len(self.shapes) < count:
            raise self.wrong(f"block_count is {count}, but there are only {len(self.shapes)} tensors")
        return count

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, rows first.

        Raises:
            RhapsodeError: there is no such tensor.
        """
        if name not in self.shapes:
            raise self.wrong(f"there is no tensor {name!r}", "the file is not a complete model")
        return self.shapes[name]

    def vector(self, name: str) -> Vector | None:
        """The numbers of a small tensor that stands for a setting, or None where there is none."""
        if name not in self.shapes:
            return None
        shape = self.shapes[name]
        if len(shape) != 1 or shape[0] > LONGEST_VECTOR:
            raise self.wrong(f"tensor {name!r} is {list(shape)}; it must be a short vector")
        self.vectors_read.add(name)
        return self._vectors(name)

    def not_understood(self) -> list[str]:
        """Keys of this architecture that nobody read and that ask for something."""
        known = {self._name(key) for key in self._read | HARMLESS}
        own = [key for key in self._metadata if key.startswith(f"{self.architecture}.") and key not in known]
        left = [key for key in own if self._metadata[key] not in NOTHING.get(key.partition(".")[2], ())]
        return sorted(f"{key}={self._metadata[key]!r:.60}" for key in left)

    def wrong(self, what: str, hint: str = "the file is damaged; fetch it again") -> RhapsodeError:
        return RhapsodeError(f"{self._where}: {what}", hint)

    def bad(self, key: str, value: Any, wanted: str) -> RhapsodeError:
        """The error for a value that cannot be, or one that is absent."""
        name = self._name(key)
        if value is None:
            return self.wrong(f"it lacks the key {name!r}", "the file does not say enough about its model")
        return self.wrong(f"{name} is {str(value)[:60]!r}; it must be {wanted}")

    def _single(self, key: str, default: float | None) -> Any:
        value = self._get(key, default)
        if isinstance(value, list) and value and all(one == value[0] for one in value):
            return value[0]
        return value

    def _get(self, key: str, default: Any) -> Any:
        self._read.add(key)
        return self._metadata.get(self._name(key), default)

    def _name(self, key: str) -> str:
        return f"{self.architecture}.{key}"


def shortest(value: float) -> float:
    """The shortest decimal number that is this one in 32 bits: 1e-06 and not 9.999999974752427e-07."""
    short = float(str(np.float32(value)))
    return short if np.float32(short) == value else float(value)
