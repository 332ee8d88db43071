"""Small vocabularies, and the keys by which a GGUF file says them."""

import functools
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tests.conftest import SENTENCES
from tests.weights.gguf.texts import LINES

from rhapsode.text.tokenizer import train_tokenizer

SPACE = "▁"
OWN = ("\n", "\n\n", "\n\n\n", SPACE * 2, SPACE * 3, SPACE * 4, "<table>", "[multimodal]", "</s>x")


class Pieces(NamedTuple):
    """What a SentencePiece model holds."""

    tokens: list[str]
    scores: list[float]
    types: list[int]
    processor: sentencepiece.SentencePieceProcessor


@functools.cache
def trained(*, has_space_before: bool, own: Sequence[str] = OWN) -> Pieces:
    """A SentencePiece model of the BPE kind that falls back to bytes, as Gemma's and Llama's are."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*SENTENCES * 20, *LINES]),
        model_writer=out,
        model_type="bpe",
        vocab_size=1200,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        add_dummy_prefix=has_space_before,
        remove_extra_whitespaces=False,
        user_defined_symbols=list(own),
        control_symbols=["<start_of_turn>", "<end_of_turn>"],
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto.FromString(out.getvalue())
    return Pieces(
        [piece.piece for piece in model.pieces],
        [piece.score for piece in model.pieces],
        [int(piece.type) for piece in model.pieces],
        sentencepiece.SentencePieceProcessor(model_proto=out.getvalue()),
    )


def say_pieces(writer: gguf.GGUFWriter, pieces: Pieces, *, has_space_before: bool, size: int | None = None) -> None:
    """As llama.cpp's converter does: the user's own tokens with plain spaces, at a score that says nothing."""
    is_own = [kind == gguf.TokenType.USER_DEFINED for kind in pieces.types]
    filler = max(0, (size or 0) - len(pieces.tokens))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    tokens = [token.replace(SPACE, " ") if own else token for token, own in zip(pieces.tokens, is_own, strict=True)]
    writer.add_token_list(tokens + [f"[PAD{number}]" for number in range(filler)])
    scores = [-1000.0 if own else score for score, own in zip(pieces.scores, is_own, strict=True)]
    writer.add_token_scores(scores + [-10000.0] * filler)
    writer.add_token_types(pieces.types + [int(gguf.TokenType.UNUSED)] * filler)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(value=True)
    writer.add_add_eos_token(value=False)
    writer.add_add_space_prefix(has_space_before)


@functools.cache
def own_shape() -> dict[str, Any]:
    """The tokenizer.json of a byte-level vocabulary, trained here."""
    with tempfile.TemporaryDirectory() as directory:
        train_tokenizer([*SENTENCES * 20, *LINES], vocab_size=700).save(Path(directory))
        shape = json.loads((Path(directory) / "tokenizer.json").read_text(encoding="utf-8"))
    assert isinstance(shape, dict)
    return shape


def say_bytes(writer: gguf.GGUFWriter, pre: str, *, size: int | None = None) -> None:
    shape = own_shape()
    tokens = sorted(shape["model"]["vocab"], key=shape["model"]["vocab"].get)
    special = {token["id"] for token in shape["added_tokens"]}
    filler = max(0, (size or 0) - len(tokens))
    types = [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens + [f"[PAD{number}]" for number in range(filler)])
    writer.add_token_types([*types, *[gguf.TokenType.UNUSED] * filler])
    writer.add_token_merges([" ".join(merge) for merge in shape["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(2)


def finish(writer: gguf.GGUFWriter) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert writer.path is not None
    return writer.path
