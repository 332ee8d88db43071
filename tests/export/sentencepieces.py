"""A vocabulary that SentencePiece's own trainer has made, as publishers write it in a tokenizer.json."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sentencepiece

from rhapsode.conformance.snippets import CODE, NUMBERS, PROSE

MARK = "▁"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'assistant' %}"
    " {{ message.content }}{{ eos_token }}{% else %}[{{ message.role }}] {{ message.content }} [/]{% endif %}"
    "{% endfor %}"
)
RUNS = [MARK * count for count in range(2, 6)]
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def write_tokenizer(path: Path, *, has_space_before: bool, own: list[str]) -> sentencepiece.SentencePieceProcessor:
    """Llama 2's kind puts a space before a text; Gemma's does not, and has words that are never cut (`own`)."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in (PROSE + CODE + NUMBERS) * 3 for line in text.split("\n")]),
        model_writer=model,
        model_type="bpe",
        vocab_size=700,
        byte_fallback=True,
        add_dummy_prefix=has_space_before,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        user_defined_symbols=own,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    path.mkdir(parents=True)
    (path / "tokenizer.json").write_text(json.dumps(_shape(processor, has_space_before, own)))
    (path / "chat_template.jinja").write_text(TEMPLATE)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **names}))
    return processor


def _shape(processor: sentencepiece.SentencePieceProcessor, has_space_before: bool, own: list[str]) -> dict[str, Any]:
    words = {processor.id_to_piece(token): token for token in range(len(processor))}
    special = ["<unk>", "<s>", "</s>"]
    made = {word: processor.get_score(token) for word, token in words.items() if word not in special + own}
    scores = {word: score for word, score in made.items() if not word.startswith("<0x")}
    prepend = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": MARK}, REPLACE]}
    decoders = [
        {"type": "Replace", "pattern": {"String": MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    bos = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if has_space_before else []
    return {
        "version": "1.0",
        "added_tokens": [_added(words, name, is_special=True) for name in special]
        + [_added(words, name, is_special=False) for name in own],
        "normalizer": prepend if has_space_before else REPLACE,
        "pre_tokenizer": None if has_space_before else SPLIT,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": bos,
            "pair": [*bos, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [words["<s>"]], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": decoders + strip},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": words,
            "merges": list(_merges(scores)),
        },
    }


def _merges(scores: dict[str, float]) -> Iterator[list[str]]:
    """Every pair of words whose union is a word, best union first; its trainer gives no two the same score."""
    for word in sorted(scores, key=scores.__getitem__, reverse=True):
        halves = ([word[:cut], word[cut:]] for cut in range(1, len(word)))
        yield from (pair for pair in halves if all(half in scores for half in pair))


def _added(words: dict[str, int], name: str, *, is_special: bool) -> dict[str, Any]:
    shape = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    return {"id": words[name], "content": name, "special": is_special, "normalized": not is_special, **shape}
