"""Everything that goes wrong on purpose is found, and called by its name, by our engine and by another reader."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conformance import faults
from tests.conformance.conftest import Edit, altered

from rhapsode.conformance.against import Peer, replay_against, replay_here
from rhapsode.conformance.diagnosis import Kind
from rhapsode.conformance.replay import FORGED
from rhapsode.conformance.report import Report, require
from rhapsode.core.errors import VerificationMismatch

FAULTS: dict[str, tuple[Edit, Kind]] = {
    "a flipped bit": (faults.flip_a_bit, "weights"),
    "a flipped bit that changes little": (lambda directory: faults.flip_a_bit(directory, bit=20), "weights"),
    "another template": (faults.change_the_template, "template"),
    "a template that begins twice": (faults.begin_the_template_twice, "double BOS"),
    "a tokenizer that begins twice": (faults.begin_texts_twice, "double BOS"),
    "a tokenizer that never begins": (faults.begin_texts_never, "no BOS"),
    "two merges swapped": (faults.swap_two_merges, "merge"),
    "another rope theta": (faults.change_the_rotation, "weights"),
    "another end token": (faults.change_the_end, "end tokens"),
}


def in_transformers(directory: Path) -> Report:
    return replay_against(directory, Peer("transformers", ""), name="tiny")


@pytest.mark.parametrize("replay", [replay_here, in_transformers], ids=["rhapsode", "transformers"])
@pytest.mark.parametrize(("edit", "kind"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named(
    edit: Edit, kind: Kind, replay: Callable[[Path], Report], model_dir: Path, tmp_path: Path
) -> None:
    report = replay(altered(model_dir, tmp_path / "model", edit))
    assert report.kinds[0] == kind
    assert set(report.kinds) <= {kind, "greedy text"}
    with pytest.raises(VerificationMismatch, match=f"{report.reader} does not read tiny .*: {kind}") as caught:
        require([report], model="tiny")
    assert caught.value.exit_code == 5
    assert caught.value.hint


def test_without_a_fault_nothing_is_found(model_dir: Path) -> None:
    for report in (replay_here(model_dir), in_transformers(model_dir)):
        assert report.mismatches == ()
        require([report], model="tiny")


def test_what_transformers_makes_of_look_alikes_is_said_and_not_called_equal(model_dir: Path) -> None:
    report = in_transformers(model_dir)
    (conversations,) = [check for check in report.checks if check.name == "conversations to ids"]
    assert (conversations.compared, conversations.of) == (3, 4)
    assert report.notes == (f"conversations to ids: 1 of 4 not compared: {FORGED}",)


def test_positions_are_told_from_other_weights(model_dir: Path, tmp_path: Path) -> None:
    turned = replay_here(altered(model_dir, tmp_path / "turned", faults.change_the_rotation))
    assert any("a token alone gets the scores it should" in note for note in turned.notes)
    flipped = replay_here(altered(model_dir, tmp_path / "flipped", faults.flip_a_bit))
    assert not any("a token alone" in note for note in flipped.notes)


def test_a_wrong_merge_is_shown_with_its_tokens(model_dir: Path, tmp_path: Path) -> None:
    report = replay_here(altered(model_dir, tmp_path / "model", faults.swap_two_merges))
    (first, *_) = report.mismatches
    assert first.where.startswith("text ")
    assert "from token 14 on ' the' ' ' 'w' ... expected, ' t' 'he' ' ' ... found" in first.what


def test_a_bit_that_makes_numbers_infinite_is_named_too(model_dir: Path, tmp_path: Path) -> None:
    report = replay_here(altered(model_dir, tmp_path / "model", faults.blow_up))
    assert report.kinds[0] == "weights"


def test_a_directory_that_transformers_cannot_read_does_not_hold(model_dir: Path, tmp_path: Path) -> None:
    def rename(directory: Path) -> None:
        (directory / "config.json").write_text('{"model_type": "no such family"}')

    directory = altered(model_dir, tmp_path / "model", rename)
    with pytest.raises(VerificationMismatch, match="transformers cannot read"):
        in_transformers(directory)
