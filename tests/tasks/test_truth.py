"""What the rows teach is true: dates are those that were written, sums come out, German is German, code runs."""

import inspect
import json
import re
from typing import Any

import pytest

from rhapsode.corpus.examples.example import Completion, Conversation, said
from rhapsode.tasks.packs import code
from rhapsode.tasks.packs.translate import Noun, Phrase, noun_phrase
from rhapsode.tasks.words import MONTHS

from .conftest import examples, rows

NUMBER = re.compile(r"\d+")


def completions(name: str) -> list[tuple[str, str]]:
    pairs = [(e.prompt, e.completion) for e in examples(name) if isinstance(e, Completion)]
    assert len(pairs) == len(examples(name))
    return [(str(prompt), str(completion)) for prompt, completion in pairs]


def conversations(name: str) -> list[Conversation]:
    found = [example for example in examples(name) if isinstance(example, Conversation)]
    assert len(found) == len(examples(name))
    return found


def test_bookings_say_what_the_messages_say() -> None:
    for prompt, completion in completions("extract"):
        booking = json.loads(completion)
        assert list(booking) == ["name", "people", "date", "time", "phone", "needs"]
        text = prompt.casefold()
        month, day = map(int, booking["date"].split("-"))
        assert MONTHS[month - 1][:3].casefold() in text or f"{day}/{month}" in text
        assert re.search(rf"\b{day}(th|st|nd|rd)?\b", text)
        assert booking["name"].casefold() in text
        assert (booking["phone"] or "") in text
        assert ("tel." in text or "number" in text or "reach me" in text or "call" in text) == bool(booking["phone"])
        assert all(need in text for need in booking["needs"] or ())
        assert 17 <= int(booking["time"][:2]) <= 21
        assert 1 <= booking["people"] <= 12


def test_a_quarter_to_is_of_the_next_hour() -> None:
    pairs = [pair for pair in completions("extract") if "quarter to nine" in pair[0]]
    assert pairs
    assert {json.loads(completion)["time"] for _, completion in pairs} == {"20:45"}


def test_the_tutor_is_right_and_gives_nothing_away() -> None:
    """The answer is said by the pupil first, and what the tutor names of the sum comes out."""
    for talk in conversations("tutor"):
        first, reply, *rest = [message.content for message in talk.messages]
        task = re.search(r"(\d+) ([-+*]) (\d+)", first)
        assert task is not None
        a, b = int(task[1]), int(task[3])
        right = {"+": a + b, "-": a - b, "*": a * b}[task[2]]
        given = re.findall(r"\d+", first.replace(task[0], ""))[0]
        assert (reply == f"Yes, {right} is right. How did you find it?") == (int(given) == right)
        if int(given) == right:
            assert not rest
            continue
        found, between = [turn for turn in rest if str(right) in NUMBER.findall(turn)], rest
        if found:
            *between, said_by_pupil, praise = rest
            assert found == [said_by_pupil, praise]
            assert praise == f"Exactly, {right}. Well done!"
        assert str(right) not in NUMBER.findall(" ".join([reply, *between]))
        for left, word, other, total in re.findall(
            r"(\d+) (and|times|minus) (\d+) (?:make|is) (\d+)", " ".join([reply, *between])
        ):
            assert {"and": int(left) + int(other), "times": int(left) * int(other), "minus": int(left) - int(other)}[
                word
            ] == int(total)


def run(source: str, argument: list[Any]) -> Any:
    space: dict[str, Any] = {}
    exec(source, space)
    [function] = [value for value in space.values() if inspect.isfunction(value)]
    return function(argument)


def test_every_function_runs_and_returns_what_its_head_says() -> None:
    kinds: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "None": type(None), "list": list}
    for head, body in completions("code"):
        argument: list[Any] = [7, -4, 12, 15, 0] if "list[int]) ->" in head else ["stone", "An oak", "HAT", " misted "]
        returns = re.findall(r"\b(int|float|str|None|list)\b", head.partition("->")[2].partition(":")[0])
        for given in (argument, []):
            result = run(head + body, given)
            assert isinstance(result, tuple(kinds[name] for name in returns)), head


@pytest.mark.parametrize(
    ("sentence", "argument", "result"),
    [
        ("Return the sum of the squares of the even values.", [1, 2, -4], 20),
        ("Return a sorted list of the halves of the positive values.", [6, -1, 3], [1.5, 3.0]),
        ("Return the largest of the values above 5.", [3, 9, 6], 9),
        ("Return the number of different values that 3 divides.", [3, 6, 3, 4], 2),
        ("Return the first of the cubes of the negative values.", [1, -2, -3], -8),
        ('Return one text with commas between the upper-case forms of the words that end with "s".', ["as", "b"], "AS"),
        ("Return the longest of the reversed forms of the words.", ["ab", "abc"], "cba"),
        ("Return the total length of the stripped forms of the words of more than 2 letters.", [" ab ", "a"], 2),
        ("Return the number of different words.", ["a", "b", "a"], 2),
        ("Return the first of the words in capitals.", ["a", "B"], "B"),
    ],
)
def test_a_docstring_means_what_its_code_does(sentence: str, argument: list[Any], result: Any) -> None:
    made = {}
    for many, kinds, changes, results, element in (
        ("values", code.OF_NUMBERS, code.NUMBERS_TO, code.NUMBERS_AS, "int"),
        ("words", code.OF_TEXTS, code.TEXTS_TO, code.TEXTS_AS, "str"),
    ):
        constant = next(iter(NUMBER.findall(sentence)), "") if element == "int" else "s"
        constants = {"<K>": constant, "<N>": next(iter(NUMBER.findall(sentence)), "")}
        for wanted in kinds:
            for change in changes:
                for outcome in results:
                    row = code.function(many, wanted, change, outcome, element=element, constants=constants)
                    made[row["prompt"].split('"""')[1]] = row["prompt"] + row["completion"]
    assert run(made[sentence], argument) == result


@pytest.mark.parametrize(
    ("english", "german"),
    [
        (
            "The friendly engineer should find a letter at the market.",
            "Der freundliche Ingenieur soll einen Brief auf dem Markt finden.",
        ),
        ("Our tired man carries our bottle.", "Unser müder Mann trägt unsere Flasche."),
        (
            "In summer a girl picks up a beautiful clock at school.",
            "Im Sommer holt ein Mädchen eine schöne Uhr in der Schule ab.",
        ),
        (
            "Last week the quiet engineer picked up the old shirt.",
            "Letzte Woche hat der stille Ingenieur das alte Hemd abgeholt.",
        ),
        (
            "My young cook should pick up our heavy suitcase in the garden.",
            "Meine junge Köchin soll unseren schweren Koffer im Garten abholen.",
        ),
        (
            "My tired neighbour does not pick up a cheap clock at the station.",
            "Mein müder Nachbar holt keine billige Uhr am Bahnhof ab.",
        ),
        ("An old farmer does not pick up the clock.", "Ein alter Bauer holt die Uhr nicht ab."),
        (
            "Does our quiet gardener read a heavy letter in the kitchen?",
            "Liest unser stiller Gärtner einen schweren Brief in der Küche?",
        ),
        (
            "My gardener is glad because the tired child carries the heavy suitcase.",
            "Mein Gärtner freut sich, weil das müde Kind den schweren Koffer trägt.",
        ),
    ],
)
def test_german_that_a_reader_has_checked_is_what_the_grammar_writes(english: str, german: str) -> None:
    assert {row["en"]: row["de"] for row in rows("translate")}[english] == german


@pytest.mark.parametrize("gender", "mfn")
def test_adjectives_bend_with_article_gender_and_case(gender: str) -> None:
    noun, adjective = Noun("x", "X", gender), Phrase("old", "alt")
    said = [
        noun_phrase(article, adjective, noun, case).german
        for case in ("nominative", "accusative")
        for article in ("the", "a", "our")
    ]
    assert (
        said
        == {
            "m": ["der alte X", "ein alter X", "unser alter X", "den alten X", "einen alten X", "unseren alten X"],
            "f": ["die alte X", "eine alte X", "unsere alte X", "die alte X", "eine alte X", "unsere alte X"],
            "n": ["das alte X", "ein altes X", "unser altes X", "das alte X", "ein altes X", "unser altes X"],
        }[gender]
    )


def test_every_verb_that_parts_is_whole_where_it_stands_last() -> None:
    for row in rows("translate"):
        if ", weil " in row["de"] and "picks up" in row["en"].split("because")[1]:
            assert row["de"].endswith("abholt.")


def test_summaries_name_only_what_the_minutes_name() -> None:
    for talk in conversations("summarise"):
        text, summary = said(talk)
        decided, to_do, still_open = re.fullmatch(r"Decided: (.*?)\. To do: (.*?)\. Open: (.*)\.", summary).groups()  # type: ignore[union-attr]
        assert decided == "nothing yet" or decided.removeprefix("to ") in text
        who, task, by = re.fullmatch(r"(\w+) will (.*) by (\w+)", to_do).groups()  # type: ignore[union-attr]
        assert who in text
        assert by in text
        assert task in text or task.capitalize() in text
        assert still_open == "nothing" or still_open in text


def test_drafts_say_what_the_notes_say_and_mark_what_they_leave_open() -> None:
    for talk in conversations("draft"):
        prompt, draft = said(talk)
        notes = prompt.partition("Notes: ")[2]
        number_of_gaps = draft.count("[to be filled in: ")
        assert number_of_gaps == sum(notes.count(word) for word in ("time open", "no date yet", "cost unclear"))
        for number in NUMBER.findall(draft.replace(":00", "")):
            assert number in NUMBER.findall(prompt)
        assert ("sorry" in draft) == any(word in prompt for word in ("third time", "less rent", "angry"))


def test_support_calls_only_tools_that_are_offered_and_says_what_they_found() -> None:
    with_tools = 0
    for talk in conversations("support"):
        calls = [call for message in talk.messages for call in message.tool_calls]
        assert not calls or talk.tools
        with_tools += bool(calls)
        results = [json.loads(message.content) for message in talk.messages if message.role == "tool"]
        last = talk.messages[-1].content
        for result in results:
            for value in result.values():
                assert (
                    value in ("in preparation", "on its way", "delayed", "delivered", 0, "no such order", "too old")
                    or str(value) in last
                )
        for call in calls:
            for value in call.function.values.values():
                text = " ".join(message.content for message in talk.messages if message.role == "user")
                assert value in text or call.function.name == "start_return"
    assert with_tools > len(rows("support")) / 3
    grave = [talk for talk in conversations("support") if "electric shock" in talk.messages[0].content]
    assert grave
    assert all("a colleague" in talk.messages[-1].content for talk in grave)
