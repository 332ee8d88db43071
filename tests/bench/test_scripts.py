"""The scripts of bench/ run, as somebody would start them, on shapes that take seconds."""

import json
import subprocess
import sys

import pytest
import zstandard
from tests.bench.conftest import BENCH
from tests.conftest import make_texts
from tests.recipe.bases import make_base

from rhapsode.kernels import native

pytestmark = pytest.mark.slow

TUNED = """
task: {name: tuned}
data: {examples: [{path: train.jsonl, split: train}, {path: held.jsonl, split: validation}]}
model: {base: base, context: 64}
train: {batch_tokens: 256, learning_rate: 1.0e-9, precision: bf16, adapter: {rank: 4}}
"""


def run(script, *options, cwd, shape=("--size", "tiny")):
    command = [sys.executable, BENCH / script, *shape, "--threads", "1", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kept(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("documents", [1, 4])
def test_throughput_measures_speed_and_memory_of_both(tmp_path, documents):
    options = ("--rows", 4, "--rounds", 2, "--steps", 1, "--warmup", 1, "--documents", documents)
    said = run("train_throughput.py", *options, "--peers", "gpt:autocast:eager:shipped", cwd=tmp_path)
    assert "| gpt | autocast | eager | shipped |" in said
    (record,) = kept(tmp_path / "out/bench/train_throughput.jsonl")
    meeting = record["meetings"]["gpt:autocast:eager:shipped"]
    assert len(meeting["ours"]) == len(meeting["theirs"]) == len(meeting["ratios"]) == 2
    assert all(turn["speed"] > 0 and turn["memory"] > 1e7 for turn in meeting["ours"] + meeting["theirs"])


@pytest.fixture
def mix(tmp_path):
    """The options that make a mix of some small sets."""
    for number, name in enumerate(("novels", "openstax-textbooks", "python-code")):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in make_texts(2000, seed=number))
        (tmp_path / f"{name}.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    return ("--data", tmp_path, "--train-characters", 60_000, "--held-out-characters", 500)


def test_time_to_quality_races_and_shows(tmp_path, mix):
    options = (*mix, "--minutes", 0.02, "--look-every", 0.5, "--rows", 4, "--eager")
    said = run("time_to_quality.py", *options, "--sides", "ours", "gpt", cwd=tmp_path)
    ours, theirs = kept(tmp_path / "out/bench/time_to_quality.jsonl")
    assert (ours["kind"], theirs["kind"]) == ("ours", "peer")
    assert ours["held_out_bytes"] == theirs["held_out_bytes"]
    assert set(ours["looks"][-1]["bits"]) == {"all", "novels", "openstax-textbooks", "python-code"}
    assert "The best peer with its own defaults: gpt" in said
    assert (tmp_path / "out/bench/time_to_quality.svg").stat().st_size > 1000


def test_ablations_change_one_thing_at_equal_time(tmp_path, mix):
    run("ablations.py", *mix, "--speeds", "--rounds", 1, "--turn", 0.1, cwd=tmp_path)
    arms = ("as planned", "Muon*", "z-loss*", "2048 tokens a step*")
    said = run("ablations.py", *mix, "--seconds", 0.5, "--run", *arms, cwd=tmp_path)
    records = {record["arm"]: record for record in kept(tmp_path / "out/bench/ablations.jsonl")}
    assert len(records) == 10
    bits = {arm: record["bits"]["all"] for arm, record in records.items()}
    assert len(set(bits.values())) == len(bits), "a change that changes nothing"
    speeds = json.loads((tmp_path / "out/bench/ablation_speeds.json").read_text())
    assert records["as planned"]["tokens"] == pytest.approx(0.5 * speeds["as planned"], rel=0.2)
    assert said.count("| as planned |") == 1


@pytest.mark.skipif(not native.has_attention(), reason="this processor does not multiply bfloat16")
def test_shared_prefixes_are_measured_as_trees_and_as_documents(tmp_path):
    said = run("shared_prefixes.py", "--rounds", 2, "--heads", 2, 1, 32, cwd=tmp_path, shape=())
    (record,) = kept(tmp_path / "out/bench/shared_prefixes.jsonl")
    assert said.count("\n") == len(record["families"]) + 2
    for family in record["families"]:
        trunk, branches, length = (family[name] for name in ("trunk", "branches", "length"))
        tokens, tiles = family["less"]
        assert tokens == pytest.approx(branches * (trunk + length) / (trunk + branches * length))
        assert 0.5 < tiles <= tokens
        assert len(family["rounds"]) == 2


def test_tuning_meets_peft_and_trl_on_the_same_examples(tmp_path):
    """At a rate of next to nothing all have the loss of the base, however they pad or pack, in whichever type."""
    pytest.importorskip("trl")
    make_base(tmp_path / "base", "gemma3_text")
    said = ("ship", "wind", "gates", "harbour", "crew", "days")
    rows = [{"prompt": f"number {i} {'of the wind ' * (i % 5)}{said[i % 6]}", "completion": f" {i}"} for i in range(60)]
    for name, part in {"train": rows[:50], "held": rows[50:]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (tmp_path / "tuned.yaml").write_text(TUNED)
    options = ("--peers", "peft", "trl-packed", "--weights", "autocast", "--rounds", 2, "--steps", 1, "--rows", 3)
    table = run("tuning.py", tmp_path / "tuned.yaml", *options, cwd=tmp_path, shape=())
    (record,) = kept(tmp_path / "out/bench/tuning.jsonl")
    assert list(record["turns"]) == ["ours", "peft:autocast:3:shipped", "trl-packed:autocast:3:shipped"]
    assert table.count("\n| ") == 2 + 3  # a head and a side each
    for own in record["turns"].values():
        assert all(turn["speed"] > 0 and turn["memory"] > 1e7 for turn in own)
        for turn, ours in zip(own, record["turns"]["ours"], strict=True):
            assert turn["loss"] == pytest.approx(ours["loss"], rel=0.01)
