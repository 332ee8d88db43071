"""What we write, the ecosystem reads: transformers computes the same logits from the same directory."""

from pathlib import Path

import pytest
import torch
from tests.conftest import make_decoder, make_spec
from tests.model.cases import CASES
from tests.model.conftest import TOLERANCE, dense_logits, twin
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from rhapsode.core.manifest import writing
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import FAMILIES
from rhapsode.model.spec import ModelSpec
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import load_model, read_model, write_model


def own_shapes(family: str) -> dict[str, ModelSpec]:
    """What our own pretraining writes, in several shapes."""
    shapes = {
        "grouped queries, tied": make_spec(family=family),
        "a key head for every query head, untied": make_spec(family=family, kv_heads=4, tied=False),
        "one key head": make_spec(family=family, kv_heads=1, tied=False),
        "heads wider than the residual stream": make_spec(family=family, width=40, kv_heads=2, head_dim=14),
        "another rope base, one layer": make_spec(family=family, depth=1, rope_theta=500_000.0),
        "odd sizes": make_spec(
            family=family, vocab_size=101, width=36, heads=3, kv_heads=1, head_dim=10, ffn=37, depth=3
        ),
    }
    return {f"{family}, {name}": spec for name, spec in shapes.items()}


OWN = own_shapes("qwen3") | own_shapes("llama")


def write(path: Path, model: Decoder, tokenizer_dir: Path) -> Path:
    with writing(path, kind="model") as work:
        weights = list(model.named_parameters())
        write_model(work.path, spec=model.spec, weights=weights, tokenizer_dir=tokenizer_dir, stops=(4,))
    return path


def their_reading(path: Path) -> PreTrainedModel:
    theirs: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager"
    )
    return theirs.eval()


@pytest.mark.parametrize("shape", OWN)
@torch.no_grad()
def test_a_model_of_our_own_gives_transformers_the_same_logits(shape: str, tokenizer_dir: Path, tmp_path: Path) -> None:
    spec = OWN[shape]
    path = write(tmp_path / "model", make_decoder(spec, std=0.3), tokenizer_dir)
    theirs = their_reading(path)
    assert type(theirs).__name__ == FAMILIES[spec.family].architecture
    ids = torch.randint(0, spec.vocab_size, (2, spec.context), generator=torch.Generator().manual_seed(1))
    expected = theirs(ids).logits
    assert expected.std() > 1  # at such a scale a wrong base or mask is far outside of the tolerance
    torch.testing.assert_close(dense_logits(load_model(path), ids), expected, rtol=0, atol=TOLERANCE)
    assert sum(p.numel() for p in theirs.parameters()) == spec.parameters


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_directory_of_any_family_goes_there_and_back_byte_for_byte(
    case: str, tokenizer_dir: Path, tmp_path: Path
) -> None:
    model = twin(case)
    path = write(tmp_path / "model", model.ours, tokenizer_dir)
    theirs = their_reading(path)
    torch.testing.assert_close(theirs(model.ids).logits, model.logits, rtol=0, atol=TOLERANCE)
    again = tmp_path / "again"
    theirs.save_pretrained(again)
    ours, back = load_model(path), read_model(again)
    for (name, value), (other_name, other) in zip(ours.named_parameters(), back.named_parameters(), strict=True):
        assert name == other_name
        assert torch.equal(value, other)
    assert ours.spec == back.spec


def test_the_parity_test_would_notice_a_wrong_rope_base(tokenizer_dir: Path, tmp_path: Path) -> None:
    model = make_decoder(make_spec(), std=0.3)
    path = write(tmp_path / "model", model, tokenizer_dir)
    wrong = Decoder(make_spec(rope_theta=20_000.0))
    wrong.load_state_dict(load_model(path).state_dict())
    ids = torch.randint(0, 96, (1, 64), generator=torch.Generator().manual_seed(1))
    assert (dense_logits(wrong, ids) - dense_logits(model, ids)).abs().max() > 0.1


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
    theirs = their_reading(path)
    assert theirs.generation_config.eos_token_id == [1, 4]
    assert (theirs.generation_config.bos_token_id, theirs.generation_config.pad_token_id) == (0, 2)
