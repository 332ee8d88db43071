"""The evidence of a model of each family holds in our engine and in transformers, from the directory alone."""

from pathlib import Path

import pytest
from tests.conftest import make_decoder
from tests.model.cases import CASES

from rhapsode.conformance.against import Peer, replay_against, replay_here
from rhapsode.conformance.vectors import add_conformance
from rhapsode.model.families.registry import spec_from_config
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import write_model

ONE_OF_EACH = {config["model_type"]: config for config in reversed(CASES.values())}

OF_TRANSFORMERS = {"qwen2": {"tokens"}}
"""What it does to a family: it gives each qwen2 model Qwen's own tokenizer, which composes letters."""


@pytest.mark.parametrize("family", sorted(ONE_OF_EACH))
def test_evidence_of_every_family_holds(family: str, tokenizer: Tokenizer, tokenizer_dir: Path, tmp_path: Path) -> None:
    spec = spec_from_config(ONE_OF_EACH[family] | {"vocab_size": tokenizer.vocab_size + 3})
    weights = [(name, weight.detach()) for name, weight in make_decoder(spec).named_parameters()]
    stops = [tokenizer.eos, tokenizer.end_of_turn]
    write_model(tmp_path, spec=spec, weights=weights, tokenizer_dir=tokenizer_dir, stops=stops)
    add_conformance(tmp_path)
    ours, theirs = replay_here(tmp_path), replay_against(tmp_path, Peer("transformers", ""), name=family)
    assert ours.mismatches == ()
    assert set(theirs.kinds) <= OF_TRANSFORMERS.get(family, set())
    for report in (ours, theirs):
        (scores,) = [check for check in report.checks if check.name == "scores of last positions"]
        assert scores.compared == scores.of == 21
