"""What a vocabulary does to text before it merges, as far as it bears on cutting and on coming back.

A long text is cut at the first visible character of a line, but only where the ids of the blocks, joined, are proven
to be the ids of the whole: no stage and no token of the vocabulary may reach over such a place.
"""

import re
from typing import Any

from rhapsode.text.definition import Definition, leaves, sequence_key

SPLIT = (  # Llama 3's: contractions, words with the mark before them, up to three digits, marks, line ends, spaces
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_ONE_DIGIT = SPLIT.replace("{1,3}", "")  # Qwen's
_OVER_LINE_START = re.compile(r"\n[^\n]")


def cuts_at_lines(definition: Definition) -> bool:
    """Whether the ids of a text are the ids of its `line_blocks`, joined."""
    pieces_of_text = [token for token in definition.added if not token.is_special]
    return not (
        any(_OVER_LINE_START.search(token.content) for token in definition.added)
        or any(token.strips_space for token in pieces_of_text)
        or (pieces_of_text and starts_with_space(definition))  # the space is put after each of them too
    ) and (_byte_level_cuts(definition) if definition.space is None else _sentencepiece_cuts(definition))


def is_faithful(definition: Definition) -> bool:
    """Whether no stage changes text, so that all of it comes back."""
    return (
        definition.space is None
        and not leaves(definition.normalizer)
        and not starts_with_space(definition)
        and not any(token.strips_space and not token.is_special for token in definition.added)
    )


def starts_with_space(definition: Definition) -> bool:
    """Whether a space is put before every text, as SentencePiece likes to do."""
    stages = (definition.normalizer, definition.pre_tokenizer)
    return any(without_start(stage) != stage for stage in stages)


def without_start(stage: Any) -> Any:
    """A normaliser or pre-tokenizer for text that goes on: without the space that is put before a text."""
    kind = stage and stage["type"]
    if kind == "Metaspace" and stage.get("prepend_scheme", "always") != "never":
        kept = {key: stage[key] for key in ("type", "replacement", "split") if key in stage}
        return {**kept, "prepend_scheme": "never"}
    if kind == "ByteLevel":
        return {**stage, "add_prefix_space": False}
    if kind == "Sequence":
        key = sequence_key(stage)
        return {**stage, key: [without_start(part) for part in stage[key] if part["type"] != "Prepend"]}
    return None if kind == "Prepend" else stage


def _byte_level_cuts(definition: Definition) -> bool:
    """No match of these expressions reaches over a line's start, and neither do letters that are composed."""
    split, *to_bytes = leaves(definition.pre_tokenizer) or [{}]
    pattern = split.get("pattern", {}).get("Regex")
    return (
        pattern in (SPLIT, _ONE_DIGIT)
        and split == {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        and [(step["type"], step.get("add_prefix_space"), step.get("use_regex")) for step in to_bytes]
        == [("ByteLevel", False, False)]
        and all(step["type"] == "NFC" for step in leaves(definition.normalizer))
    )


def _sentencepiece_cuts(definition: Definition) -> bool:
    """Merges happen side by side: where no token holds a line end and something after it, none joins over one."""
    return (
        all(_is_apart(step, definition.space) for step in leaves(definition.normalizer))
        and all(_is_apart(step, definition.space) for step in leaves(definition.pre_tokenizer))
        and not definition.ignores_merges
        and ("\n" in definition.words or definition.has_byte_words)
        and not any(_OVER_LINE_START.search(word) for word in definition.words)
    )


def _is_apart(step: dict[str, Any], space: str | None) -> bool:
    """Whether a stage does no more than to mark spaces."""
    if step["type"] in ("Prepend", "Metaspace"):
        return True
    is_space = step.get("pattern") == {"String": " "}
    return is_space and (step["type"] == "Split" or (step["type"] == "Replace" and step["content"] == space))
