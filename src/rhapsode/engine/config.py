"""How much memory and how large a step. Free of torch."""

from pydantic import Field, model_validator

from rhapsode.core.config import Bytes, Config, Count
from rhapsode.core.units import GiB


class EngineConfig(Config):
    """The room that an engine has."""

    memory: Bytes = Field(default=GiB, description="Room for keys and values, at most; never more than useful.")
    page_size: int = Field(default=16, ge=1, le=1024, description="Tokens a page; whole pages are shared.")
    max_requests: int = Field(default=32, ge=1, le=4096, description="So many requests are computed at the same time.")
    tokens_per_step: Count = Field(default=512, description="A step computes at most so many tokens of all requests.")
    context: Count | None = Field(default=None, description="Prompt and answer together; unset is the model's own.")

    @model_validator(mode="after")
    def _every_request_advances(self) -> "EngineConfig":
        if self.tokens_per_step < self.max_requests:
            raise ValueError(
                f"tokens_per_step ({self.tokens_per_step}) must be at least max_requests ({self.max_requests})"
            )
        if self.context is not None and self.context < 1:
            raise ValueError("context must be 1 or more")
        return self
