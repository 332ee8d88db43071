from pathlib import Path

import gguf
import gguf.quants
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from tests.weights.gguf.raw import Tensor, whole

from rhapsode.core.errors import RhapsodeError
from rhapsode.weights.gguf import rows
from rhapsode.weights.gguf.container import Gguf, read_gguf
from rhapsode.weights.gguf.rows import check_types, is_readable, read_rows

READABLE = [kind for kind in GGMLQuantizationType if is_readable(kind)]
OTHERS = [kind for kind in GGMLQuantizationType if not is_readable(kind)]
ROWS, BLOCKS = 9, 3


def file_of(path: Path, data: bytes, *, kind: GGMLQuantizationType, columns: int) -> Gguf:
    size = len(data) // (columns // GGML_QUANT_SIZES[kind][0] * GGML_QUANT_SIZES[kind][1])
    path.write_bytes(whole(data, tensors=[Tensor(b"weight", [columns, size], kind, 0)]))
    return read_gguf(path)


def test_all_types_that_models_are_published_in_are_readable() -> None:
    names = {kind.name for kind in READABLE}
    assert {"F32", "F16", "BF16", "Q4_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"} <= names
    assert {"MXFP4", "TQ1_0", "IQ1_S", "IQ2_XXS", "IQ3_S", "IQ4_NL"} <= names


@pytest.mark.parametrize("kind", READABLE, ids=lambda kind: kind.name)
def test_rows_of_every_type_are_what_the_package_makes_of_them(
    kind: GGMLQuantizationType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block, block_size = GGML_QUANT_SIZES[kind]
    # bytes below 0x3c: as halves of a scale they are finite
    random = np.random.default_rng(0).integers(0, 0x3C, (ROWS, BLOCKS * block_size), dtype=np.uint8)
    expected = gguf.quants.dequantize(random, kind).reshape(ROWS, BLOCKS * block)
    file = file_of(tmp_path / "a.gguf", random.tobytes(), kind=kind, columns=BLOCKS * block)
    monkeypatch.setattr(rows, "_STEP", 2 * block)  # so that rows and steps end at different places
    np.testing.assert_array_equal(read_rows(file, "weight"), expected)
    np.testing.assert_array_equal(read_rows(file, "weight", start=2, stop=7), expected[2:7])
    assert expected.any()


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16", "F16", "TQ1_0", "TQ2_0", "MXFP4"])
def test_what_was_quantised_comes_back_nearly(name: str, tmp_path: Path) -> None:
    kind = GGMLQuantizationType[name]
    weights = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], (4, 512)).astype(np.float32)
    data = np.ascontiguousarray(gguf.quants.quantize(weights, kind)).tobytes()
    file = file_of(tmp_path / "a.gguf", data, kind=kind, columns=512)
    np.testing.assert_allclose(read_rows(file, "weight"), weights, atol=0.15)


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.name)
def test_other_types_are_refused_by_name(kind: GGMLQuantizationType, tmp_path: Path) -> None:
    block, size = GGML_QUANT_SIZES[kind]
    file = file_of(tmp_path / "a.gguf", bytes(size), kind=kind, columns=block)
    with pytest.raises(RhapsodeError, match=f"tensor 'weight' is {kind.name}") as caught:
        check_types(file)
    assert "Q4_K" in caught.value.hint


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_numbers_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    data = np.array([[1, 2], [3, value]], np.float32).tobytes()
    file = file_of(tmp_path / "a.gguf", data, kind=GGMLQuantizationType.F32, columns=2)
    assert read_rows(file, "weight", stop=1).tolist() == [[1, 2]]
    with pytest.raises(RhapsodeError, match="tensor 'weight' holds infinity or NaN"):
        read_rows(file, "weight")


def test_large_numbers_whose_sum_overflows_are_finite(tmp_path: Path) -> None:
    data = np.full((2, 2), 3e38, np.float32)
    file = file_of(tmp_path / "a.gguf", data.tobytes(), kind=GGMLQuantizationType.F32, columns=2)
    np.testing.assert_array_equal(read_rows(file, "weight"), data)
