"""What we write, the ecosystem reads: transformers computes the same logits from the same directory."""

import dataclasses
from pathlib import Path

import pytest
import torch
from tests.conftest import make_decoder, make_spec
from transformers import AutoModelForCausalLM, AutoTokenizer

from rhapsode.core.manifest import writing
from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder
from rhapsode.model.families import FAMILIES
from rhapsode.model.spec import ModelSpec
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import load_model, write_model

SHAPES = {
    "grouped queries, tied": make_spec(),
    "a key head for every query head, untied": make_spec(kv_heads=4, tied=False),
    "one key head": make_spec(kv_heads=1, tied=False),
    "heads wider than the residual stream": make_spec(width=40, heads=4, kv_heads=2, head_dim=14),
    "another rope base, one layer": make_spec(depth=1, rope_theta=500_000.0),
    "odd sizes": make_spec(vocab_size=101, width=36, heads=3, kv_heads=1, head_dim=10, ffn=37, depth=3),
}


def write(path: Path, model: Decoder, tokenizer_dir: Path) -> Path:
    with writing(path, kind="model") as work:
        weights = list(model.named_parameters())
        write_model(work.path, spec=model.spec, weights=weights, tokenizer_dir=tokenizer_dir, end_of_turn=4)
    return path


@torch.no_grad()
def logits(model: Decoder, ids: torch.Tensor) -> torch.Tensor:
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    attend = DenseAttend(torch.ones_like(ids), dtype=torch.float32)
    return model.logits(model(ids, positions, attend=attend))


def of_family(spec: ModelSpec, family: str) -> ModelSpec:
    return dataclasses.replace(spec, family=family, qk_norm=FAMILIES[family].qk_norm)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_gives_the_same_logits(family: str, shape: str, tokenizer_dir: Path, tmp_path: Path) -> None:
    spec = of_family(SHAPES[shape], family)
    path = write(tmp_path / "model", make_decoder(spec, std=0.3), tokenizer_dir)
    theirs = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    assert type(theirs).__name__ == FAMILIES[family].architecture
    ids = torch.randint(0, spec.vocab_size, (2, spec.context), generator=torch.Generator().manual_seed(1))
    ours = logits(load_model(path), ids)
    with torch.no_grad():
        expected = theirs(ids).logits
    assert expected.std() > 1  # at such a scale a wrong base or mask is far outside of the tolerance
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-3)
    assert sum(p.numel() for p in theirs.parameters()) == spec.parameters


def test_the_parity_test_would_notice_a_wrong_rope_base(tokenizer_dir: Path, tmp_path: Path) -> None:
    model = make_decoder(make_spec(), std=0.3)
    path = write(tmp_path / "model", model, tokenizer_dir)
    wrong = Decoder(make_spec(rope_theta=20_000.0))
    wrong.load_state_dict(load_model(path).state_dict())
    ids = torch.randint(0, 96, (1, 64), generator=torch.Generator().manual_seed(1))
    assert (logits(wrong, ids) - logits(model, ids)).abs().max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_reads_back_what_it_wrote_from_ours(family: str, tokenizer_dir: Path, tmp_path: Path) -> None:
    spec = of_family(make_spec(), family)
    path = write(tmp_path / "model", make_decoder(spec), tokenizer_dir)
    theirs = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with writing(tmp_path / "again", kind="model") as work:
        theirs.save_pretrained(work.path)
    ours, again = load_model(path), load_model(tmp_path / "again")
    for (name, value), (other_name, other) in zip(ours.named_parameters(), again.named_parameters(), strict=True):
        assert name == other_name
        assert torch.equal(value, other)


def test_auto_tokenizer_gives_the_same_ids(tokenizer: Tokenizer, tokenizer_dir: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "model", make_decoder(make_spec(vocab_size=tokenizer.vocab_size)), tokenizer_dir)
    theirs = AutoTokenizer.from_pretrained(path)
    ours = Tokenizer.load(path)
    for text in ("sing, goddess", "", "  späte Ähren\n\n\t€ 日本語 🎵", "<|im_end|> x", "a" * 500, "1234567 it's I'LL"):
        if "<|" not in text:  # theirs reads special tokens out of text; ours never does
            assert theirs(text)["input_ids"] == ours.ids(text)
        assert theirs.decode(ours.encode(text)) == text
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (ours.bos, ours.eos, ours.pad)


def test_generation_stops_where_ours_does(tokenizer_dir: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "model", make_decoder(make_spec()), tokenizer_dir)
    theirs = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    assert theirs.generation_config.eos_token_id == [1, 4]
    assert (theirs.generation_config.bos_token_id, theirs.generation_config.pad_token_id) == (0, 2)
