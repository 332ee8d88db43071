"""Tiny models of other families, complete as `rhapsode models pull` leaves them: what training starts from."""

import json
from pathlib import Path
from typing import Any

from tests.conftest import make_decoder
from tests.model.cases import GEMMA2, LLAMA, of
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from rhapsode.core.manifest import writing
from rhapsode.model.families.registry import spec_from_config
from rhapsode.weights.directory import write_model

PADDED = 32
"""Rows of the embedding that no token uses."""
TEXTS = ["the ship came home to the harbour", "the crew sang of the wind and the gates", "number 12 of 340 days"] * 3
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def make_base(
    path: Path,
    family: str,
    *,
    facts: dict[str, Any] | None = None,
    seed: int = 0,
    context: int = 64,
    template: str | None = TEMPLATE,
) -> Path:
    """A complete directory with weights at random; `family` is gemma3_text, which has no template, or qwen2.

    Its template is good for nothing but to be one; without it tuning takes ChatML, which it has the tokens for.
    """
    backend, config = _gemma() if family == "gemma3_text" else _qwen()
    if family == "qwen2" and template is not None:
        config["chat_template"] = template
    names = path.parent / f"{path.name}-tokenizer"
    names.mkdir(parents=True)
    (names / "tokenizer.json").write_text(backend.to_str(), encoding="utf-8")
    (names / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    shape = {"vocab_size": backend.get_vocab_size() + PADDED, "eos_token_id": 1 if family == "gemma3_text" else 0}
    spec = spec_from_config(_CONFIGS[family] | shape | {"max_position_embeddings": context})
    told = {"source": "hub:somebody/tiny", "revision": "1", "licence": "gemma", "objective": "next_token"}
    with writing(path, kind="model", facts=told | (facts or {})) as work:
        weights = list(make_decoder(spec, std=0.1, seed=seed).named_parameters())
        write_model(work.path, spec=spec, weights=weights, tokenizer_dir=names, stops=(3,))
        (work.path / "GEMMA_TERMS.html").write_text("<p>Terms</p>\n")
        (work.path / "NOTICE").write_text("Notice\n")
    return path


_CONFIGS = {
    "gemma3_text": of(
        "gemma3_text",
        GEMMA2,
        architectures=["Gemma3ForCausalLM"],
        num_hidden_layers=4,
        rope_theta=None,
        rms_norm_eps=1e-6,
        rope_parameters={
            "full_attention": {"rope_theta": 10_000.0, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 100.0, "rope_type": "default"},
        },
        layer_types=["sliding_attention", "full_attention"] * 2,
    ),
    "qwen2": of(
        "qwen2",
        LLAMA,
        architectures=["Qwen2ForCausalLM"],
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        bos_token_id=None,
        pad_token_id=None,
    ),
}


def _gemma() -> tuple[Tokenizer, dict[str, Any]]:
    """SentencePiece's way: spaces are a letter, bytes stand in for what has no piece, a text begins with bos."""
    special = ["<pad>", "<eos>", "<bos>", "<end_of_turn>", "<unk>"]
    backend = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("▁(?=[^▁])"), behavior="merged_with_next")
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=len(pieces) + 80, special_tokens=pieces, show_progress=False)
    backend.train_from_iterator([text.replace(" ", "▁") for text in TEXTS], trainer)
    shape = json.loads(backend.to_str())
    shape["pre_tokenizer"] = None
    shape["added_tokens"] = [token for token in shape["added_tokens"] if token["content"] in special]
    backend = Tokenizer.from_str(json.dumps(shape))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps)
    begin = ("<bos>", backend.token_to_id("<bos>"))
    backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[begin])
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return backend, {"tokenizer_class": "PreTrainedTokenizerFast", **names, "custom_key": "kept"}


def _qwen() -> tuple[Tokenizer, dict[str, Any]]:
    """Byte-level, without a bos; a text begins with nothing."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    names = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    return backend, {"tokenizer_class": "PreTrainedTokenizerFast", **names}
