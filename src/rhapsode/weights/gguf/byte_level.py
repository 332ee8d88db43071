"""Byte-level vocabularies: the file has their merges, and the name of the way in which text is split first."""

from collections.abc import Iterator, Mapping

from rhapsode.weights.gguf.pre_tokenizers import pre_tokenizer
from rhapsode.weights.gguf.vocabulary import Parts, Vocabulary

_DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def byte_level(v: Vocabulary) -> Parts:
    """Raises RhapsodeError where the way of splitting is not known, or a merge does not make a token."""
    name = v.keys.get("pre")
    if not isinstance(name, str):
        raise v.wrong(
            "it lacks the key 'tokenizer.ggml.pre'", "older files do not say how text is split; take a newer one"
        )
    before, words = pre_tokenizer(name, where=v.where), v.words(v.tokens)
    return Parts(
        v.tokens,
        model={
            "unk_token": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": before.ignore_merges,
            "vocab": words,
            "merges": list(_merges(v, words)),
        },
        normalizer=before.normalizer,
        pre_tokenizer=before.pre_tokenizer,
        decoder=_DECODER,
        adds_bos=before.adds_bos,
        is_normalized=False,
    )


def _merges(v: Vocabulary, words: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Each pair once, where it comes first. The left token may begin with a space, as in llama.cpp."""
    for number, merge in enumerate(dict.fromkeys(v.merges)):
        rest, space, right = merge[1:].partition(" ")
        left = merge[:1] + rest
        if not space or any(part not in words for part in (left, right, left + right)):
            raise v.wrong(f"tokenizer.ggml.merges[{number}] is {merge[:40]!r}, which does not join two tokens to one")
        yield left, right
