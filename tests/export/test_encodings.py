import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.core.errors import RhapsodeError
from rhapsode.export.gguf.encodings import decode, encode, encoded_as, encodings, find_encoding


def test_everything_that_the_package_can_make_is_offered() -> None:
    makes = set()
    for kind in Type:
        try:
            gguf.quants.quantize(np.zeros((1, 256), np.float32), kind)
        except NotImplementedError:
            continue
        makes.add(kind.name.lower())
    assert set(encodings()) == makes
    assert {"f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "tq1_0", "tq2_0"} <= makes


def test_an_unknown_encoding_is_refused_with_those_there_are() -> None:
    with pytest.raises(RhapsodeError, match="q4_k_m") as refused:
        find_encoding("q4_k_m")
    assert "q8_0" in refused.value.hint


@pytest.mark.parametrize("name", ["q4_0", "tq2_0", "q8_0", "f16"])
@pytest.mark.parametrize(
    ("tensor", "shape"),
    [
        ("output_norm.weight", (256,)),
        ("blk.0.attn_q.bias", (256,)),
        ("blk.0.attn_q_norm.weight", (4, 256)),
        ("blk.0.ffn_gate_inp.weight", (4, 256)),
        ("position_embd.weight", (64, 256)),
    ],
)
def test_what_a_model_is_most_sensitive_to_stays_float32(name: str, tensor: str, shape: tuple[int, ...]) -> None:
    assert encoded_as(tensor, shape, find_encoding(name)) == (Type.F32, "")


@pytest.mark.parametrize("tensor", ["token_embd.weight", "output.weight"])
def test_the_vocabulary_gets_eight_bits_at_least(tensor: str) -> None:
    kinds = {name: encoded_as(tensor, (300, 256), kind).type.name for name, kind in encodings().items()}
    assert kinds == {name: kind.name if kind.bits >= 8.5 else "Q8_0" for name, kind in encodings().items()}


@pytest.mark.parametrize(
    ("name", "row", "kind"),
    [("q4_0", 64, "Q4_0"), ("q4_0", 48, "F16"), ("tq1_0", 96, "Q8_0"), ("tq1_0", 40, "F16"), ("bf16", 7, "BF16")],
)
def test_rows_that_are_no_multiple_of_the_block_are_written_wider_and_say_why(name: str, row: int, kind: str) -> None:
    found = encoded_as("blk.0.ffn_up.weight", (8, row), find_encoding(name))
    assert found.type.name == kind
    assert bool(found.reason) == (kind.lower() != name)


@given(st.sampled_from(list(encodings())), st.integers(0, 10**6), st.floats(1e-3, 1e3))
def test_rounding_takes_what_is_stated_and_order_a_whole_tensor(name: str, seed: int, scale: float) -> None:
    from rhapsode.export.gguf.proof import largest_error

    kind = find_encoding(name)
    values = (np.random.default_rng(seed).normal(size=(8, 256)) * scale).astype(np.float32)
    data = encode(values, kind.type, name="x")
    assert data.nbytes == values.size * kind.bits / 8
    found = decode(data, kind.type).reshape(values.shape)
    size = np.linalg.norm(values)
    assert np.linalg.norm(found - values) <= largest_error(kind) * size
    assert np.linalg.norm(found[::-1] - values) > largest_error(kind) * size


@pytest.mark.parametrize("name", ["f16", "q8_0", "q4_0"])
def test_numbers_that_do_not_fit_are_refused_by_the_name_of_their_tensor(name: str) -> None:
    values = np.full((1, 32), 7e4, np.float32)
    with pytest.raises(RhapsodeError, match=r"blk\.3\.ffn_up\.weight holds 7e\+04") as refused:
        encode(values, find_encoding(name).type, name="blk.3.ffn_up.weight")
    assert "bf16" in refused.value.hint
    assert decode(encode(values, Type.BF16, name="x"), Type.BF16).max() == pytest.approx(7e4, rel=1e-2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    values = np.ones((1, 32), np.float32)
    values[0, 5] = bad
    with pytest.raises(RhapsodeError, match="not finite"):
        encode(values, Type.F32, name="x")
