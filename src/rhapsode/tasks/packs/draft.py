"""Replies to letters, drafted from the notes of whoever knows the case.

The office of a housing company answers its tenants. Every fact of the draft stands in the notes; what they leave open
is marked, so that nobody sends it unseen.
"""

from typing import NamedTuple

from rhapsode.tasks.draw import Draw
from rhapsode.tasks.pack import Pack, Row
from rhapsode.tasks.words import FIRST_NAMES, MONTHS, SURNAMES, WEEKDAYS


class Matter(NamedTuple):
    """What a letter can be about, who comes because of it, and how tenants write of it."""

    about: str
    visitor: str
    letters: tuple[str, ...]


class Fact(NamedTuple):
    """What the office notes, and how the draft says it."""

    note: str
    sentence: str


MATTERS = (
    Matter(
        "the heating",
        "heating engineer",
        (
            "the radiator in the {room} stays cold.",
            "since {day} there is no heating in the {room}.",
            "our heating knocks.",
        ),
    ),
    Matter(
        "the water",
        "plumber",
        ("the tap in the {room} drips.", "water comes through the ceiling of the {room}.", "we only have cold water."),
    ),
    Matter(
        "the lift",
        "lift engineer",
        ("the lift has been standing since {day}.", "the lift stops between the floors.", "I cannot climb {n} floors."),
    ),
    Matter(
        "the lock of your door",
        "locksmith",
        ("my key no longer turns.", "I lost the key of the {room}.", "the lock of our flat jams."),
    ),
    Matter(
        "the electricity",
        "electrician",
        ("the light in the {room} flickers.", "the fuse blows every evening.", "a socket in the {room} is loose."),
    ),
    Matter(
        "the damp",
        "building inspector",
        ("there is mould in the {room}.", "the wall of the {room} is wet.", "it smells of damp in the {room}."),
    ),
    Matter(
        "the noise",
        "caretaker",
        ("the neighbours above drill every night.", "the pump in the cellar hums.", "the door below bangs all day."),
    ),
    Matter(
        "the rubbish",
        "caretaker",
        ("the bins have not been emptied since {day}.", "somebody leaves furniture in the yard.", "there are rats."),
    ),
)
ROOMS = ("kitchen", "bathroom", "bedroom", "hall", "cellar", "living room")
GREETED = ("Hello, ", "Good morning, ", "Dear office, ", "")
CROSS = ("This is the third time that I write!", "I will pay less rent if nothing happens.", "I am really angry.")
CALM = ("Could you send somebody?", "What can be done?", "Thank you for your help.", "Please tell me what to do.")
PROMPT = "Draft a reply to this letter from the notes.\n\nLetter: {letter}\nNotes: {notes}"
OFFICE = "Your housing office"


def row(draw: Draw) -> Row:
    matter, name = draw.one(MATTERS), f"{draw.one(FIRST_NAMES)} {draw.one(SURNAMES)}"
    is_cross = draw.is_one_in(3)
    letter = draw.text(matter.letters, room=draw.one(ROOMS), day=draw.one(WEEKDAYS), n=str(draw.number(4, 11)))
    greeting = draw.one(GREETED)
    letter = letter if greeting else letter[0].upper() + letter[1:]
    letter = f"{greeting}{letter} {draw.one(CROSS if is_cross else CALM)} {name}"
    facts = _facts(draw, matter)
    notes = "; ".join(note for note, _ in facts)
    sorry = " We are sorry for the trouble that you have had." if is_cross else ""
    body = " ".join(sentence for _, sentence in facts)
    draft = f"Dear {name},\n\nthank you for your letter about {matter.about}.{sorry} {body}\n\nKind regards\n{OFFICE}"
    prompt = PROMPT.format(letter=letter, notes=notes)
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": draft}]}


def _facts(draw: Draw, matter: Matter) -> list[Fact]:
    """What was done or will be, and some of what else there is to say; nobody waits for a visit that was."""
    day, hour, who = draw.one(WEEKDAYS), draw.number(8, 17), matter.visitor
    someone = f"{'An' if who[0] in 'aeiou' else 'A'} {who}"
    if draw.is_one_in(4):
        again = Fact("ring if it happens again", "Please ring us if it happens again.")
        was = Fact(f"{who} was there {day}, mended", f"{someone} was there on {day}, and it should be mended.")
        return [was, *draw.some([_cost(draw), again], draw.number(1, 2))]
    comes = draw.one(
        (
            Fact(f"{who} {day[:3]} {hour}h", f"{someone} will come on {day} at {hour}:00."),
            Fact(f"{who} comes {day}, time open", f"{someone} will come on {day} at [to be filled in: the time]."),
            Fact(f"{who} ordered, no date yet", f"{someone} will come on [to be filled in: the day]."),
        )
    )
    return [comes, *draw.some([_cost(draw), _access(draw), _request(draw)], draw.number(1, 3))]


def _cost(draw: Draw) -> Fact:
    euros = 5 * draw.number(3, 40)
    return draw.one(
        (
            Fact("free of charge", "This costs you nothing."),
            Fact(f"tenant pays {euros}", f"Please note that {euros} euros of the cost are yours."),
            Fact("cost unclear", "What it costs is not settled yet: [to be filled in: the cost]."),
        )
    )


def _access(draw: Draw) -> Fact:
    floor = draw.one(("first", "second", "third"))
    return draw.one(
        (
            Fact("must be at home", "Somebody must be at home to open the door."),
            Fact("caretaker has key", "You need not be at home; the caretaker has a key."),
            Fact(f"key to shop on {floor} floor", f"Please leave a key with the shop on the {floor} floor."),
        )
    )


def _request(draw: Draw) -> Fact:
    day = f"{draw.number(1, 28)} {draw.one(MONTHS)}"
    return draw.one(
        (
            Fact(f"reply by {day}", f"Please tell us by {day} whether this suits you."),
            Fact("photos pls", "Please send us photographs of it."),
        )
    )


PACK = Pack(
    name="draft",
    line="drafts of letters from notes, with a mark wherever a fact is missing",
    purpose="Drafts replies to tenants from the notes of the office; what the notes leave open is marked.",
    shape="openai",
    scorers=("rougeL", "chrf"),
    max_tokens=160,
    context=512,
    risk="A letter promises on behalf of whoever signs it; a day or a sum that nobody noted binds all the same.",
    review="every answer",
    checks="each fact against the notes and every [to be filled in], by the person who signs",
    prompts=(
        PROMPT.format(
            letter="Hello, the lift has been standing since Monday. What can be done? Mai Berg",
            notes="lift engineer ordered, no date yet; free of charge",
        ),
    ),
    own_rows="letters with the notes and the reply that was really sent, names replaced",
    row=row,
)
