"""`config.json`, read key by key. A key that nobody read, and that is not known to change nothing, is not understood.

That is how an architecture is never loaded approximately: a family reads what it computes, and the rest is refused by
name. Every value is checked, since a model may come from anyone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from rhapsode.core.errors import RhapsodeError

T = TypeVar("T")

LARGEST = 2**31 - 1
SMALL, LARGE = 1e-30, 1e30
LONGEST_SHOWN, MOST_SHOWN = 60, 40

# keys that never change what the decoder computes: bookkeeping, dropout, first weights, losses, other tasks' heads,
# the number of devices that once shared a product
HARMLESS = {
    *("_attn_implementation_autoset", "_name_or_path", "architectures", "cache_implementation", "dtype", "model_type"),
    *("torch_dtype", "transformers_version", "unsloth_fixed", "unsloth_version", "use_cache", "is_llama_config"),
    *("tokenizer_class", "transformers.js_config", "pretraining_tp", "_num_labels", "output_past"),
    *("attention_dropout", "attn_pdrop", "embd_pdrop", "embedding_dropout", "hidden_dropout", "resid_pdrop"),
    *("residual_dropout", "initializer_range", "output_router_logits", "router_aux_loss_coef", "router_jitter_noise"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "chunk_size_feed_forward", "output_attentions", "return_dict"),
    *("output_hidden_states", "problem_type", "id2label", "label2id", "task_specific_params", "summary_activation"),
    *("summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj"),
}
# keys of any family that may only say what every decoder does anyway
ALWAYS: dict[str, list[Any]] = {
    "add_cross_attention": [False],
    "attention_bias": [False],
    "is_decoder": [True, False],
    "is_encoder_decoder": [False],
    "mlp_bias": [False],
    "lm_head_bias": [False],
    "partial_rotary_factor": [1.0],
    "quantization_config": [],
    "rope_interleaved": [False],
    "sliding_window": [],
    "use_mrope": [False],
    "use_sliding_window": [False],
}


class Fields:
    """The keys of one `config.json`; remembers which were read."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self._read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """The value as it is; `default` also stands for null."""
        self._read.add(key)
        value = self.config.get(key)
        return default if value is None else value

    def whole(self, key: str, default: T | None = None, *, low: int = 1, high: int = LARGEST) -> int | T:
        """A whole number within bounds.

        Raises:
            RhapsodeError: it is absent, without a default, or something else.
        """
        value = self.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, default: T | None = None) -> float | T:
        """A number above zero. Raises as `whole`."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if type(value) not in (int, float) or not SMALL < value < LARGE:
            raise self.wrong(key, "a number above zero")
        return float(value)

    def maybe_number(self, key: str, absent: float | None = None) -> float | None:
        """A number, or None where the key says null; `absent` stands for a key that is not there at all."""
        return self._maybe(key, absent, self.number)

    def maybe_whole(self, key: str, absent: int | None = None) -> int | None:
        """A whole number; None and `absent` as in `maybe_number`."""
        return self._maybe(key, absent, self.whole)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def choice(self, key: str, values: Mapping[str, T], default: str | None = None) -> T:
        """The value that one of several words stands for."""
        value = self.get(key, default)
        if not isinstance(value, str) or value not in values:
            raise self.wrong(key, f"one of {', '.join(values)}")
        return values[value]

    def only(self, key: str, values: Sequence[object]) -> None:
        """Read a key that may only have one of these values, or be absent or null.

        Raises:
            RhapsodeError: it asks for something else, which no decoder of this family computes here.
        """
        value = self.get(key)
        if value is not None and not any(value is v or (type(value) is type(v) and value == v) for v in values):
            raise RhapsodeError(
                f"config.json asks for what this decoder does not compute: {key}={shown(value)}",
                "choose another model",
            )

    def off(self, key: str) -> None:
        """Read a key that may only be false, or absent. Raises as `only`."""
        self.only(key, [False])

    def not_understood(self) -> list[str]:
        """The keys, with their values, that nobody read; null asks for nothing."""
        for key in ALWAYS.keys() - self._read:
            self.only(key, ALWAYS[key])
        known = self._read | HARMLESS
        left = sorted(key for key, value in self.config.items() if value is not None and key not in known)
        named = [f"{_short(key)}={shown(self.config[key])}" for key in left[:MOST_SHOWN]]
        return named if len(left) <= MOST_SHOWN else [*named, f"and {len(left) - MOST_SHOWN:,} more"]

    def wrong(self, key: str, wanted: str) -> RhapsodeError:
        """The error for a key whose value cannot be."""
        if self.config.get(key) is None:
            return RhapsodeError(f"config.json lacks {key!r}", "the directory is not a complete model")
        return RhapsodeError(
            f"config.json: {key} is {shown(self.config[key])}; it must be {wanted}", "restore the file"
        )

    def _maybe(self, key: str, absent: T | None, read: Callable[[str], T]) -> T | None:
        if key not in self.config:
            self._read.add(key)
            return absent
        return None if self.get(key) is None else read(key)


def shown(value: object) -> str:
    """A value for a message: bounded, whatever it is."""
    try:
        return _short(repr(value))
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        return f"a {type(value).__name__} too large to show"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
