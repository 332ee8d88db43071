"""How a frozen matrix is kept while nothing computes. Free of torch; `frozen` does it."""

from typing import Literal

Storage = Literal["bf16", "int8", "int4"]
