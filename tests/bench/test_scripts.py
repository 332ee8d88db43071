"""The scripts of bench/ run, as somebody would start them, on shapes that take seconds."""

import json
import subprocess
import sys

import pytest
import zstandard
from tests.bench.conftest import BENCH
from tests.conftest import make_texts

pytestmark = pytest.mark.slow


def run(script, *options, cwd):
    command = [sys.executable, BENCH / script, "--size", "tiny", "--threads", "1", *map(str, options)]
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


def test_time_to_quality_races_and_shows(tmp_path):
    for number, name in enumerate(("novels", "openstax-textbooks", "python-code")):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in make_texts(400, seed=number))
        (tmp_path / f"{name}.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    options = ("--data", tmp_path, "--minutes", 0.02, "--look-every", 0.5, "--rows", 4, "--eager")
    options += ("--train-characters", 5_000, "--held-out-characters", 500)
    said = run("time_to_quality.py", *options, "--sides", "ours", "gpt", cwd=tmp_path)
    ours, theirs = kept(tmp_path / "out/bench/time_to_quality.jsonl")
    assert (ours["kind"], theirs["kind"]) == ("ours", "peer")
    assert ours["held_out_bytes"] == theirs["held_out_bytes"]
    assert set(ours["looks"][-1]["bits"]) == {"all", "novels", "openstax-textbooks", "python-code"}
    assert "The best peer with its own defaults: gpt" in said
    assert (tmp_path / "out/bench/time_to_quality.svg").stat().st_size > 1000
