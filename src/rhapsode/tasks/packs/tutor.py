"""Pupils who did a sum, and a tutor who finds the step that went wrong without saying the answer.

Each mistake is one that pupils make: a ten that is not carried, the smaller digit taken from the larger whichever
stands above, a ten that is borrowed and not paid, another operation. The tutor names the step and asks; only when the
pupil has the answer does the tutor say it. Talks end at any of these turns, so that hints are what is measured.
"""

from typing import NamedTuple

from rhapsode.tasks.draw import Draw
from rhapsode.tasks.pack import Pack, Row


class Sum(NamedTuple):
    """A task, its answer, what the pupil got and how, the hint for that, and a smaller step if it is not enough."""

    task: str
    answer: int
    given: int
    working: str
    hint: str
    step: str


ASKED = (
    "I worked out {task} and got {given}. Is that right?",
    "{task} = {given}?",
    "Is {given} the answer to {task}?",
    "My answer to {task} is {given}, but my friend has something else.",
    "For {task} I have {given}.",
    "Can you check this: {task} is {given}.",
    "The book asks for {task}. I say {given}.",
    "I am not sure about {task}. Could it be {given}?",
)
FOUND = (
    "Oh! Then it is {answer}.",
    "{answer}?",
    "Now I get {answer}.",
    "Ah, I see. {answer}!",
    "So the answer is {answer}.",
)
LOST = ("I do not understand.", "I still get {given}.", "What do you mean?", "I am stuck.", "How do I do that?")


def row(draw: Draw) -> Row:
    made = draw.one((_added, _subtracted, _multiplied))(draw)
    if draw.is_one_in(4):
        made = made._replace(given=made.answer, working="")
    said = draw.text(ASKED, task=made.task, given=str(made.given))
    if made.working and draw.is_one_in(2):
        said += f" {made.working}"
    if made.given == made.answer:
        return _talk(said, f"Yes, {made.answer} is right. How did you find it?")
    turns = [said, made.hint]
    if draw.is_one_in(3):
        turns += [draw.text(LOST, given=str(made.given)), made.step]
    if draw.is_one_in(3):
        turns += [draw.text(FOUND, answer=str(made.answer)), f"Exactly, {made.answer}. Well done!"]
    return _talk(*turns)


def _added(draw: Draw) -> Sum:
    a, b = _two_digits(draw, 2), _two_digits(draw, 2)
    while a % 10 + b % 10 < 10:
        a, b = _two_digits(draw, 2), _two_digits(draw, 2)
    ones, tens = a % 10 + b % 10, a // 10 + b // 10
    given, working, hint = draw.one(
        (
            (
                tens * 10 + ones % 10,
                f"I did {a % 10} and {b % 10}, wrote {ones % 10}, then {a // 10} and {b // 10}.",
                f"Look at the ones: {a % 10} and {b % 10} make {ones}. You wrote {ones % 10}; where does the ten go?",
            ),
            (
                abs(a - b),
                f"I took {min(a, b)} away from {max(a, b)}.",
                "You took one number away from the other. What does the plus sign ask you to do?",
            ),
        )
    )
    step = f"The tens make {a // 10 * 10 + b // 10 * 10}, the ones make {ones}. What do these two make together?"
    return Sum(f"{a} + {b}", a + b, given, working, hint, step)


def _subtracted(draw: Draw) -> Sum:
    a, b = _two_digits(draw, 3), _two_digits(draw, 1)
    while a <= b + 10 or a % 10 >= b % 10 or b % 10 - a % 10 == 5:  # 5: two different mistakes have the same outcome
        a, b = _two_digits(draw, 3), _two_digits(draw, 1)
    upper, lower, tens = a % 10, b % 10, a // 10 - b // 10
    given, working, hint = draw.one(
        (
            (
                tens * 10 + lower - upper,
                f"I did {lower} minus {upper} and {a // 10} minus {b // 10}.",
                f"Look at the ones: the task is {upper} minus {lower}, not {lower} minus {upper}. What can you borrow?",
            ),
            (
                tens * 10 + 10 + upper - lower,
                f"I made the {upper} a {upper + 10} and took {lower} away.",
                f"The ones are right: you borrowed a ten. How many tens are left of the {a // 10}?",
            ),
        )
    )
    rest = a - b // 10 * 10
    step = f"Take it in two steps: first {a} minus {b // 10 * 10} is {rest}. What is left without another {lower}?"
    return Sum(f"{a} - {b}", a - b, given, working, hint, step)


def _multiplied(draw: Draw) -> Sum:
    a, b = _two_digits(draw, 1), draw.number(3, 9)
    while a % 10 * b < 10:
        a, b = _two_digits(draw, 1), draw.number(3, 9)
    ones, tens = a % 10 * b, a // 10 * b
    given, working, hint = draw.one(
        (
            (
                tens * 10 + ones % 10,
                f"I did {b} times {a % 10}, wrote {ones % 10}, then {b} times {a // 10}.",
                f"Look at the ones: {b} times {a % 10} is {ones}. You wrote the {ones % 10}; what becomes of the rest?",
            ),
            (a + b, f"I put {a} and {b} together.", f"You added. What do {b} times as many come to?"),
        )
    )
    step = (
        f"Take it apart: {b} times {a // 10 * 10} is {tens * 10}, and {b} times {a % 10} is {ones}. And both together?"
    )
    return Sum(f"{a} * {b}", a * b, given, working, hint, step)


def _two_digits(draw: Draw, least: int) -> int:
    """With at least so many tens, and ones that are not zero."""
    return 10 * draw.number(least, 9) + draw.number(1, 9)


def _talk(*said: str) -> Row:
    """Pupil and tutor in turns."""
    speakers = ("human", "gpt") * len(said)
    return {"conversations": [{"from": who, "value": text} for who, text in zip(speakers, said, strict=False)]}


PACK = Pack(
    name="tutor",
    line="hints that lead to the answer instead of saying it",
    purpose="Tells pupils which step of a sum went wrong, and leaves the answer to them.",
    shape="sharegpt",
    scorers=("f1", "rougeL"),
    max_tokens=64,
    context=384,
    risk="A tutor that is wrong teaches the mistake, and a pupil cannot tell.",
    review="a sample",
    checks="whether the step that is named is the one that went wrong, and whether an answer was given away",
    prompts=(
        "I worked out 47 + 38 and got 75. Is that right?",
        "My answer to 52 - 17 is 35, but my friend has something else.",
    ),
    own_rows="chats with good tutors, in which each hint fits the mistake; leave out names and schools",
    row=row,
)
