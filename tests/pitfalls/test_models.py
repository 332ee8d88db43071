"""Pitfalls 10 to 15 and fault 72: models and adapters that load, and are not what was trained."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conformance import faults
from tests.conformance.conftest import altered, edit_json
from tests.conformance.fake_server import FakeServer
from tests.conformance.test_endpoint import in_fake
from tests.export.test_ids import Faulty
from tests.pitfalls.conftest import Project, Tuned

from rhapsode.cli.models import find_model
from rhapsode.core.errors import PlanRefused, RhapsodeError, VerificationMismatch
from rhapsode.core.events import Events
from rhapsode.core.manifest import MANIFEST, digest, verify
from rhapsode.engine.load import load_engine
from rhapsode.engine.sampling import Sampling
from rhapsode.export.gguf.ids import compare_ids
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.adapter import load_adapter
from rhapsode.weights.directory import load_model
from rhapsode.weights.merge.adapter import merge_adapter


def base_of(tuned: Tuned) -> Path:
    assert tuned.plan.base_directory is not None
    return tuned.plan.base_directory


def loosened(tuned: Tuned, into: Path) -> Path:
    """The adapter as a stranger would publish it: without a manifest."""
    shutil.copytree(tuned.adapter, into)
    (into / MANIFEST).unlink()
    return into


def load(tuned: Tuned, adapter: Path) -> float:
    base = base_of(tuned)
    return load_adapter(load_model(base), adapter, base=digest(base)).change


def test_10_a_server_with_another_template_is_found_by_the_evidence_in_the_model(tuned: Tuned, tmp_path: Path) -> None:
    report = in_fake(tuned.model, FakeServer(altered(tuned.model, tmp_path / "other", faults.change_the_template)))
    assert "template" in report.kinds


def test_11_the_template_that_is_saved_is_the_one_that_was_trained_wherever_readers_look(tuned: Tuned) -> None:
    trained = Tokenizer.load(tuned.plan.data.tokens.tokenizer_dir).chat_template
    saved = json.loads((tuned.model / "tokenizer_config.json").read_text())["chat_template"]
    assert trained == saved == (tuned.model / "chat_template.jinja").read_text()


def test_11_a_template_that_was_changed_since_is_named(tuned: Tuned, tmp_path: Path) -> None:
    shutil.copytree(tuned.model, tmp_path / "model")
    faults.change_the_template(tmp_path / "model")
    with pytest.raises(VerificationMismatch, match=r"chat_template\.jinja has changed"):
        verify(tmp_path / "model")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_12_an_adapter_is_not_merged_into_few_bits(dtype: torch.dtype, tuned: Tuned, tmp_path: Path) -> None:
    """That what rounding would lose is refused: tests/weights/merge/test_adapter.py."""
    with pytest.raises(RhapsodeError, match="is not merged into weights of the type"):
        merge_adapter(base_of(tuned), tuned.adapter, tmp_path / "merged", dtype=dtype)
    assert not (tmp_path / "merged").exists()


def test_13_a_token_without_a_row_is_refused_by_the_plan(project: Project) -> None:
    def add(shape: dict[str, list[dict[str, object]]]) -> None:
        plain = {"special": False, "normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
        first = 1 + max(int(str(token["id"])) for token in shape["added_tokens"])
        first = max(first, len(shape["model"]["vocab"]))  # type: ignore[call-overload]
        shape["added_tokens"] += [{"id": first + n, "content": f"<x{n}>", **plain} for n in range(40)]

    bases = project.folder / "more"
    bases.mkdir()
    source = project.folder / "bases" / "wide"
    altered(source, bases / "wide", lambda path: edit_json(path / "tokenizer.json", add))
    project.write([{"prompt": f"Ship {n} <x39>?", "completion": " red"} for n in range(40)])
    with pytest.raises(PlanRefused, match=r"its tokenizer has the token \d+ .*, and the model \d+ rows"):
        project.plan("model.base=more/wide")


def test_14_a_file_whose_reader_has_other_ids_is_no_export(tuned: Tuned) -> None:
    """That no file is left under its name: tests/export; llama.cpp itself: tests/export/test_peers.py."""
    ours = Tokenizer.load(tuned.model)
    with pytest.raises(VerificationMismatch, match="string 0"):
        compare_ids(Faulty(ours, lambda _: True), ours, quirks=[], events=Events())


def test_15_an_adapter_that_changes_nothing_is_an_error(tuned: Tuned, tmp_path: Path) -> None:
    adapter = loosened(tuned, tmp_path / "idle")
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({n: t * (0 if "lora_B" in n else 1) for n, t in tensors.items()}, adapter / "adapter_model.safetensors")
    with pytest.raises(RhapsodeError, match="changes nothing: every lora_B is zero"):
        load(tuned, adapter)


def test_15_an_adapter_whose_names_fit_nothing_is_an_error(tuned: Tuned, tmp_path: Path) -> None:
    """A segment too many, as wrappers leave it: elsewhere such an adapter loads and does nothing."""
    adapter = loosened(tuned, tmp_path / "renamed")
    tensors = load_file(adapter / "adapter_model.safetensors")
    renamed = {name.replace("model.model.", "model.model.language_model."): t for name, t in tensors.items()}
    save_file(renamed, adapter / "adapter_model.safetensors")
    with pytest.raises(RhapsodeError):
        load(tuned, adapter)


def test_15_the_adapter_that_was_trained_changes_something(tuned: Tuned, tmp_path: Path) -> None:
    assert load(tuned, loosened(tuned, tmp_path / "fine")) > 0.01


def test_72_an_adapter_is_refused_upon_another_base(tuned: Tuned, bases: Path) -> None:
    other = bases / "qwen2"
    with pytest.raises(RhapsodeError, match=r"was trained on the model [0-9a-f]{12}, and this one is"):
        load_adapter(load_model(other), tuned.adapter, base=digest(other))


def test_72_a_rank_that_is_not_that_of_the_tensors_is_refused(tuned: Tuned, tmp_path: Path) -> None:
    adapter = loosened(tuned, tmp_path / "ranked")
    edit_json(adapter / "adapter_config.json", lambda value: value.update(r=8))
    with pytest.raises(RhapsodeError, match=r"is \[4, \d+\], the model and the rank ask for \[8, \d+\]"):
        load(tuned, adapter)


def test_72_a_request_ends_with_the_weights_that_it_began_with(tuned: Tuned, tmp_path: Path) -> None:
    """Whatever takes the model's place on the disk meanwhile."""
    place = tmp_path / "model"
    shutil.copytree(tuned.model, place)
    words = Tokenizer.load(tuned.model)

    no_end = {0: -100.0, 2: -100.0, 3: -100.0}

    def answer(*, replace: bool) -> list[int]:
        engine = load_engine(place).engine
        engine.add(words.ids("Which colour has"), Sampling(max_tokens=8, temperature=0, logit_bias=no_end))
        tokens: list[int] = []
        while engine.num_open:
            if replace and len(tokens) == 2:
                shutil.copyfile(base_of(tuned) / "model.safetensors", place / "model.safetensors")
            tokens += [output.scored.token for output in engine.step() if output.scored is not None]
        return tokens

    before = answer(replace=False)
    assert len(before) == 8
    assert answer(replace=True) == before


def test_a_run_whose_adapter_was_not_merged_says_what_can_be_used(tuned: Tuned, tmp_path: Path) -> None:
    run_dir = tmp_path / "tuned"
    shutil.copytree(tuned.adapter.parent, run_dir)
    shutil.rmtree(run_dir / "model")
    for path in (run_dir, run_dir / "step-000040"):
        with pytest.raises(RhapsodeError, match=r"step-000040 is an adapter, which is not merged") as error:
            find_model(path)
        assert f"rhapsode run {run_dir / 'recipe.yaml'} --resume" in error.value.hint
        assert str(base_of(tuned).absolute()) in error.value.hint
