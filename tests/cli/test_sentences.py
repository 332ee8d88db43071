"""What the terminal says of events."""

import pytest

from rhapsode.cli.sentences import SENTENCES, WARNINGS, printable, sentence, warning

SPENT = {
    "seconds": 320.4,
    "seconds_by": {"steps": 300.0, "looks": 18.3, "saves": 2.1},
    "tokens_per_second": 5123.4,
    "memory_bytes": 1_234_000_000,
    "disk_bytes": 151_000_000,
    "joules": 2925.0,
    "joules_are": "estimate",
    "joules_how": "585 s of processor time x 5 W a thread",
}


def test_what_was_spent_is_told_in_one_line():
    assert sentence("spent", SPENT) == (
        "spent 5 min 20 s (steps 5 min 0 s, looks 18.3 s, saves 2.1 s), 5.1k tokens/s, 1.2 GB of memory, "
        "151.0 MB of disk, 2.9 kJ (0.8 Wh) (an estimate: 585 s of processor time x 5 W a thread)"
    )


def test_a_look_names_its_sources_only_where_there_are_several():
    one = {"step": 3, "bits_per_byte": 1.23456, "by_source": {"texts": 1.23456}}
    assert sentence("validation", one) == "step 3: 1.235 bits per byte on held-out documents"
    several = {**one, "by_source": {"novels": 1.2, "code": 1.5}}
    assert sentence("validation", several) == (
        "step 3: 1.235 bits per byte on held-out documents (novels 1.200, code 1.500)"
    )
    lost = {"step": 3, "bits_per_byte": None}
    assert sentence("validation", lost) == "step 3: no finite number of bits per byte on held-out documents"


def test_samples_are_one_line_each_and_cannot_command_the_terminal():
    samples = [
        {"prompt": "def read_lines(path):\n    ", "completion": "return \x1b[2J\x07open(path)\r\n\tx" + "y" * 99},
        {"prompt": "Sing", "completion": " of \u202emen"},
    ]
    lines = sentence("samples", {"step": 5, "samples": samples}).splitlines()
    prompt, _, written = lines[0].partition(" \u2192 ")
    assert prompt == "  \u2026 read_lines(path):\u23ce    "
    assert written.startswith("return \u241b[2J\u2407open(path)\u23ce xyyy")
    assert (len(written), written[-1]) == (60, "\u2026")
    assert lines[1:] == ["  Sing \u2192  of \ufffdmen"]


@pytest.mark.parametrize("text", ["\x00", "\x7f", "\x9b31m", "\ud800", "\u2028", "a\rb"])
def test_no_control_character_reaches_the_terminal(text):
    assert printable(text).isprintable()


def test_events_are_told_as_sentences_or_warnings_and_never_both():
    assert not set(SENTENCES) & set(WARNINGS)
    assert sentence("step", {}) is None
    assert warning("step", {}) is None
    assert warning("skipped", {"step": 7, "reason": "its loss is not finite"}) == (
        "step 7 is left out: its loss is not finite"
    )
