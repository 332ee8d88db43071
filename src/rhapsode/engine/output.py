"""What the engine says about a request after a step. Free of torch."""

from typing import Literal, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.scheduler import RequestId

FinishReason = Literal["stop", "length", "error"]


class Alternative(NamedTuple):
    """A token and its log-probability under the model's own, untempered distribution."""

    token: int
    logprob: float


class Scored(NamedTuple):
    """A token that was chosen or given. `logprob` is None where nobody asked and for the first token of a prompt."""

    token: int
    logprob: float | None = None
    top: tuple[Alternative, ...] = ()


class Output(NamedTuple):
    """One request after one step.

    Attributes:
        scored: the new token; None when there is none (nothing was to be written, or an error).
        finish_reason: set in the last output of a request. After "stop" the token is the one that ended the answer.
        prompt: every token of the prompt with its log-probability, in the first output, if asked for.
        num_cached: tokens of the prompt that did not have to be computed.
        error: why the request failed, with finish_reason "error".
    """

    request: RequestId
    scored: Scored | None
    finish_reason: FinishReason | None
    prompt: tuple[Scored, ...] | None = None
    num_cached: int = 0
    error: RhapsodeError | None = None
