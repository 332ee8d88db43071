import json
import unicodedata

from tests.conformance.conftest import source_of

from rhapsode.conformance.scripts import RANGES
from rhapsode.conformance.torture import FOREIGN_SPECIAL, NUM_STRINGS, torture_strings
from rhapsode.text.tokenizer import SPECIAL_TOKENS, Tokenizer


def test_there_are_exactly_so_many_and_no_two_are_the_same(tokenizer: Tokenizer) -> None:
    strings = torture_strings(tokenizer)
    assert len(strings) == len(set(strings)) == NUM_STRINGS == 2000


def test_the_same_tokenizer_is_always_asked_the_same(tokenizer: Tokenizer) -> None:
    assert torture_strings(tokenizer) == torture_strings(tokenizer)


def test_all_are_valid_utf8(tokenizer: Tokenizer) -> None:
    assert all(string.encode().decode() == string for string in torture_strings(tokenizer))


def test_twenty_scripts_and_more_are_written(tokenizer: Tokenizer) -> None:
    written = {char for string in torture_strings(tokenizer) for char in string}
    codes = set(map(ord, written))
    scripts = [name for name, ranges in RANGES.items() if any(codes & {*range(a, b + 1)} for a, b in ranges)]
    assert len(scripts) >= 30


def test_spaces_controls_marks_and_joined_emoji_are_among_them(tokenizer: Tokenizer) -> None:
    strings = torture_strings(tokenizer)
    assert "" in strings
    assert all(any(char in string for string in strings) for char in map(chr, (*range(32), *range(127, 160))))
    assert any("\u200d" in string and "👩" in string for string in strings)
    assert any(sum(unicodedata.combining(char) > 0 for char in string) > 20 for string in strings)


def test_this_tokenizers_special_tokens_are_spelled_out(tokenizer: Tokenizer) -> None:
    strings = torture_strings(tokenizer)
    for name in (*SPECIAL_TOKENS, *FOREIGN_SPECIAL):
        assert name in strings
        assert f"a {name} b" in strings


def test_a_vocabulary_with_many_special_tokens_leaves_room_for_the_rest(tokenizer: Tokenizer) -> None:
    source = json.loads(source_of(tokenizer))
    first = 1 + max(source["model"]["vocab"].values())
    like = source["added_tokens"][0]
    source["added_tokens"] += [{**like, "id": first + n, "content": f"<unused{n}>"} for n in range(3000)]
    crowded = Tokenizer(json.dumps(source), names=tokenizer.names, chat_template="")
    strings = torture_strings(crowded)
    assert len(set(strings)) == NUM_STRINGS
    assert len([string for string in strings if "<unused" in string]) > 50
    assert " " * 64 in strings
