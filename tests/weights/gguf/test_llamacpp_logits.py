"""llama.cpp computes from the same file what we compute from the converted directory."""

from pathlib import Path

import pytest
import torch
from tests.model.conftest import dense_logits
from tests.weights.gguf.test_convert import MODELS, converted, official, write

from rhapsode.conformance.readers.llamacpp import LlamaCpp
from rhapsode.weights.directory import read_model

pytest.importorskip("llama_cpp")
pytestmark = pytest.mark.peers

# llama.cpp has no windows in Phi-3, and takes LongRoPE's long factors for short texts too where there is room for long
OTHERWISE = ("phi3", "phi3, longrope on a part of each head")
TABLE_OF_GELU = 0.03  # which llama.cpp keeps in 16 bits


@pytest.mark.parametrize("case", [case for case in MODELS if case not in OTHERWISE])
@torch.no_grad()
def test_logits_of_the_same_file(case: str, tmp_path: Path) -> None:
    path, ids = write(tmp_path / "a.gguf", case), official(case).ids[:1]
    ours = dense_logits(read_model(converted(path, tmp_path / "model")), ids)[0]
    with LlamaCpp(path) as reader:
        theirs = torch.from_numpy(reader.all_scores(ids[0].tolist()).copy())
    is_gelu = "gelu" in str(MODELS[case])
    torch.testing.assert_close(theirs, ours, rtol=0, atol=TABLE_OF_GELU if is_gelu else 1e-3)
