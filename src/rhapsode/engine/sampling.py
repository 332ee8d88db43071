"""How tokens are chosen, as a value. Free of torch; `engine/samplers.py` carries it out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from rhapsode.core.errors import RhapsodeError

MAX_LOGPROBS = 20
MAX_BIASES = 300
BIAS_LIMIT = 100.0
SEED_LIMIT = 2**64


class ParameterError(RhapsodeError):
    """A parameter of a request has no meaning; `parameter` names it."""

    def __init__(self, parameter: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.parameter = parameter


@dataclass(frozen=True)
class Sampling:
    """What one request asks for. Checked when made.

    Attributes:
        max_tokens: at most so many new tokens; None is as many as the context holds. 0 only reads the prompt.
        temperature: 0 is greedy, 1 the model's own distribution.
        top_k: only the k likeliest tokens; 0 is all.
        top_p: only the likeliest tokens that together reach this probability; 1 is all.
        min_p: only tokens at least this share as likely as the likeliest; 0 is all.
        repetition_penalty: scores of tokens seen in prompt or answer are divided by it (multiplied where negative).
        frequency_penalty: taken off the score once for every time the token is in the answer.
        presence_penalty: taken off the score once if the token is in the answer.
        logit_bias: token id -> added to its score, -100 to 100.
        seed: the same seed gives the same answer, whatever else is in the batch; None draws one.
        logprobs: also report the chosen token's log-probability and so many alternatives; None reports nothing.
        prompt_logprobs: the same for every token of the prompt.
        stop_ids: a token that ends the answer, besides those of the model.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    stop_ids: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.max_tokens is not None:
            _within("max_tokens", self.max_tokens, low=0)
        _within("temperature", self.temperature, low=0.0, high=100.0)
        _within("top_k", self.top_k, low=0)
        _within("top_p", self.top_p, low=0.0, high=1.0)
        _within("min_p", self.min_p, low=0.0, high=1.0)
        _within("repetition_penalty", self.repetition_penalty, low=0.01, high=100.0)
        _within("frequency_penalty", self.frequency_penalty, low=-2.0, high=2.0)
        _within("presence_penalty", self.presence_penalty, low=-2.0, high=2.0)
        if self.seed is not None:
            _within("seed", self.seed, low=-(2**63), high=SEED_LIMIT - 1)
        for name in ("logprobs", "prompt_logprobs"):
            if getattr(self, name) is not None:
                _within(name, getattr(self, name), low=0, high=MAX_LOGPROBS)
        if len(self.logit_bias) > MAX_BIASES:
            raise ParameterError(
                "logit_bias", f"logit_bias has {len(self.logit_bias)} entries", f"give at most {MAX_BIASES}"
            )
        for token, bias in self.logit_bias.items():
            _within(f"logit_bias[{token}]", bias, low=-BIAS_LIMIT, high=BIAS_LIMIT)

    def check_ids(self, vocab_size: int) -> None:
        """Refuse token ids that the model does not have."""
        for name, ids in (("logit_bias", self.logit_bias), ("stop_ids", self.stop_ids)):
            for token in ids:
                if not 0 <= token < vocab_size:
                    raise ParameterError(
                        name,
                        f"{name} names token {token}; the model has tokens 0 to {vocab_size - 1}",
                        "use the model's ids",
                    )


def _within(name: str, value: float, *, low: float, high: float = math.inf) -> None:
    """NaN compares false with everything, so it is refused too."""
    if not low <= value <= high or math.isinf(value):
        span = f"{low} or more" if math.isinf(high) else f"from {low} to {high}"
        raise ParameterError(name.partition("[")[0], f"{name} is {value}", f"give a number {span}")
