"""Where a model expects the token that begins a text: before documents alone, or before every piece of one.

A model that is trained here from scratch meets it where a document begins, and so learns what a beginning is. Most
others never read anything without it, and some are lost then: Gemma 3 270M needs half as many bits again for pieces of
Python. Which it is stands in the manifest of every model that was trained here, and passes on to what is made from it.
"""

from collections.abc import Mapping
from typing import Any

from rhapsode.text.tokenizer import Tokenizer

FACT = "bos"
DOCUMENTS = "documents"


def begin_of_pieces(tokenizer: Tokenizer, facts: Mapping[str, Any]) -> int | None:
    """The id that a piece begins with, for the model whose manifest tells `facts`; None leaves pieces as they are."""
    if facts.get(FACT) == DOCUMENTS or not tokenizer.prefix:
        return None
    return tokenizer.prefix[0]
