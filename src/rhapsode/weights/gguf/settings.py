"""Metadata keys of a GGUF file and keys of a config.json that say the same. Every setting is read and written here.

What the file leaves out is what llama.cpp takes instead, where it takes something; anything else is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rhapsode.model.spec import ModelSpec
from rhapsode.weights.gguf.facts import Facts

MOST_EXPERTS = 2**16  # of all layers together


class Setting(Protocol):
    """One thing that a file says about its model."""

    def read(self, facts: Facts) -> dict[str, Any]:
        """The keys of config.json. Raises RhapsodeError where the file says what cannot be."""
        ...

    def write(self, spec: ModelSpec) -> dict[str, Any]:
        """The keys of the file, without the architecture's name before them."""
        ...


@dataclass(frozen=True)
class Whole:
    """A whole number; `otherwise` is what llama.cpp takes where the file is silent."""

    key: str
    config: str
    of: Callable[[ModelSpec], int]
    otherwise: Callable[[Facts], int] | None = None

    def read(self, facts: Facts) -> dict[str, Any]:
        default = None if self.otherwise is None or facts.has(self.key) else self.otherwise(facts)
        return {self.config: facts.whole(self.key, default)}

    def write(self, spec: ModelSpec) -> dict[str, Any]:
        return {self.key: self.of(spec)}


@dataclass(frozen=True)
class Real:
    """A number above zero, as `Whole`; one that is None is not written, and not read where `is_optional`."""

    key: str
    config: str
    of: Callable[[ModelSpec], float | None]
    otherwise: Callable[[Facts], float] | None = None
    is_optional: bool = False

    def read(self, facts: Facts) -> dict[str, Any]:
        if not facts.has(self.key):
            if self.is_optional:
                return {}
            if self.otherwise is not None:
                return {self.config: self.otherwise(facts)}
        return {self.config: facts.real(self.key)}

    def write(self, spec: ModelSpec) -> dict[str, Any]:
        value = self.of(spec)
        return {} if value is None else {self.key: value}


@dataclass(frozen=True)
class Always:
    """What the architecture means without saying it."""

    config: Mapping[str, Any]

    def read(self, facts: Facts) -> dict[str, Any]:  # noqa: ARG002 - Setting's signature
        return dict(self.config)

    def write(self, spec: ModelSpec) -> dict[str, Any]:  # noqa: ARG002 - Setting's signature
        return {}


@dataclass(frozen=True)
class HasTensor:
    """A key that is true where a tensor is there, or where it is not."""

    config: str
    tensor: str
    is_there: bool = True

    def read(self, facts: Facts) -> dict[str, Any]:
        return {self.config: (self.tensor in facts.shapes) == self.is_there}

    def write(self, spec: ModelSpec) -> dict[str, Any]:  # noqa: ARG002 - Setting's signature
        return {}


@dataclass(frozen=True)
class Layers:
    """How many blocks there are."""

    config: str = "num_hidden_layers"

    def read(self, facts: Facts) -> dict[str, Any]:
        return {self.config: facts.layers()}

    def write(self, spec: ModelSpec) -> dict[str, Any]:
        return {"block_count": len(spec.layers)}


@dataclass(frozen=True)
class VocabularySize:
    """As many tokens as the embedding has rows."""

    def read(self, facts: Facts) -> dict[str, Any]:
        return {"vocab_size": facts.shape("token_embd.weight")[0]}

    def write(self, spec: ModelSpec) -> dict[str, Any]:
        return {"vocab_size": spec.vocab_size}


@dataclass(frozen=True)
class HeadDim:
    """The size of a head; where it `is_free` it may be another than the width shared among the heads."""

    is_free: bool

    def read(self, facts: Facts) -> dict[str, Any]:
        size = head_dim(facts)
        if facts.whole("attention.value_length", size) != size:
            raise facts.wrong(f"attention.key_length is {size} and attention.value_length another")
        if self.is_free:
            return {"head_dim": size}
        if size != shared_width(facts):
            raise facts.bad("attention.key_length", size, "the width shared among the heads")
        return {}

    def write(self, spec: ModelSpec) -> dict[str, Any]:
        return {"attention.key_length": spec.head_dim, "attention.value_length": spec.head_dim}


@dataclass(frozen=True)
class ExpertCounts:
    """How many experts there are and how many a token takes."""

    config: str

    def read(self, facts: Facts) -> dict[str, Any]:
        count = facts.whole("expert_count", high=MOST_EXPERTS // facts.layers())
        return {self.config: count, "num_experts_per_tok": facts.whole("expert_used_count", high=count)}

    def write(self, spec: ModelSpec) -> dict[str, Any]:
        experts = next(layer.experts for layer in spec.layers if layer.experts)
        return {"expert_count": experts.count, "expert_used_count": experts.per_token}


@dataclass(frozen=True)
class Windows:
    """Which layers have a window, and how long it is: a flag a layer, or every layer but each `period`-th."""

    period: int
    length: int | None = None

    def read(self, facts: Facts) -> dict[str, Any]:
        key, count = "attention.sliding_window_pattern", facts.layers()
        flags = facts.flags(key, count)
        if flags is None:
            period = facts.whole(key, self.period)
            flags = [(index + 1) % period != 0 for index in range(count)]
        kinds = ["sliding_attention" if flag else "full_attention" for flag in flags]
        return {"sliding_window": facts.whole("attention.sliding_window", self.length), "layer_types": kinds}

    def write(self, spec: ModelSpec) -> dict[str, Any]:
        windows = [layer.window for layer in spec.layers]
        longest = max((window for window in windows if window), default=spec.context)
        keys: dict[str, Any] = {"attention.sliding_window": longest}
        if windows != [longest if (index + 1) % self.period else None for index in range(len(windows))]:
            keys["attention.sliding_window_pattern"] = [window is not None for window in windows]
        return keys


@dataclass(frozen=True)
class OneWindow:
    """A window that all layers have; 0 says that they have none."""

    def read(self, facts: Facts) -> dict[str, Any]:
        return {"sliding_window": facts.whole("attention.sliding_window", 0, low=0) or None}

    def write(self, spec: ModelSpec) -> dict[str, Any]:
        return {"attention.sliding_window": spec.layers[0].window or 0}


@dataclass(frozen=True)
class QueryScale:
    """Gemma's scale of queries, which no key says: the size of a head, but not where there are `largest` layers."""

    largest: int

    def read(self, facts: Facts) -> dict[str, Any]:
        is_largest = facts.layers() == self.largest
        return {"query_pre_attn_scalar": shared_width(facts) if is_largest else head_dim(facts)}

    def write(self, spec: ModelSpec) -> dict[str, Any]:  # noqa: ARG002 - Setting's signature
        return {}


def shared_width(facts: Facts) -> int:
    """The width shared among the heads."""
    width, heads = facts.whole("embedding_length"), facts.whole("attention.head_count")
    if width % heads and not facts.has("attention.key_length"):
        raise facts.bad("attention.head_count", heads, f"a divisor of embedding_length, {width}")
    return width // heads


def head_dim(facts: Facts) -> int:
    return facts.whole("attention.key_length", shared_width(facts), high=2**16)
