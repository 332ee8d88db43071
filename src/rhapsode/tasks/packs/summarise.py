"""Minutes of meetings to what was decided, who does what by when, and what is open.

The minutes mislead as real ones do: a proposal falls, a task changes hands, and half of what is said has no
consequence. The summary has the same three parts each time, so that it can be looked up and compared.
"""

from typing import NamedTuple

from rhapsode.tasks.draw import Draw
from rhapsode.tasks.pack import Pack, Row
from rhapsode.tasks.words import FIRST_NAMES, MONTHS, WEEKDAYS

INSTRUCTION = "Summarise these minutes: what was decided, who does what by when, and what is open."
SHOWN = (
    "Orchard, 3 May. Noor, Kofi and Lena came. Noor wanted to sell juice at the market. It was settled at once. "
    "To mend the fence is up to Kofi, by Friday at the latest."
)


class Topic(NamedTuple):
    """What a meeting can be about: things that may be decided, things to do, and questions that nobody can answer."""

    title: str
    options: tuple[str, ...]
    tasks: tuple[str, ...]
    questions: tuple[str, ...]


TOPICS = (
    Topic(
        "summer party",
        ("hold the party in the park", "hold the party on the roof", "move the party to September", "hire a boat"),
        ("book the band", "ask the neighbours", "write the invitation", "order the drinks"),
        ("who pays for the tent", "whether families may come", "what happens if it rains"),
    ),
    Topic(
        "new website",
        ("keep the old address", "begin with the English pages", "drop the newsletter", "hire a photographer"),
        ("collect the old texts", "compare three hosts", "draw the start page", "list the broken links"),
        ("who answers the contact form", "whether the shop moves too", "which pictures we may use"),
    ),
    Topic(
        "office move",
        (
            "take the rooms in Harbour Street",
            "stay for another year",
            "share a floor with the archive",
            "leave the lab",
        ),
        ("measure the rooms", "ask for a second offer", "count the desks", "cancel the lease of the printer"),
        ("who keeps the meeting room", "whether there are bicycle stands", "when the lift is repaired"),
    ),
    Topic(
        "flood in the cellar",
        ("throw the wet files away", "have the files freeze-dried", "move the archive upstairs", "rent a dry store"),
        ("call the insurance", "photograph the damage", "borrow two pumps", "make a list of what is lost"),
        ("whether the insurance pays", "how the water came in", "who has the key to the meter"),
    ),
    Topic(
        "training plan",
        ("begin with first aid", "offer the course in two languages", "film the lectures", "pay for outside courses"),
        ("find a trainer", "ask everyone for wishes", "reserve the hall", "write the timetable"),
        ("whether part-time staff count double", "who signs the certificates", "how often we repeat it"),
    ),
    Topic(
        "canteen",
        (
            "serve a second vegetarian dish",
            "open half an hour earlier",
            "raise the price of coffee",
            "bake our own bread",
        ),
        ("talk to the cook", "try the new supplier", "repair the dishwasher", "hang up a box for complaints"),
        ("why so much food is left on Fridays", "whether guests pay more", "who cleans the terrace"),
    ),
    Topic(
        "library hours",
        ("close on Mondays", "open on Sunday afternoon", "lend tools as well as books", "end all late fees"),
        ("count the visitors", "ask the volunteers", "print new signs", "talk to the school"),
        ("who has the alarm code", "whether the town pays the heating", "how many would come"),
    ),
    Topic(
        "bus line",
        (
            "move the stop to the clinic",
            "let the bus run every twenty minutes",
            "use smaller buses",
            "end the night bus",
        ),
        ("count the passengers", "write to the county", "draw the new route", "test the ramp"),
        ("what the drivers say", "whether the bridge carries it", "who clears the snow"),
    ),
    Topic(
        "choir concert",
        ("sing in the old station", "leave out the last movement", "invite the children's choir", "charge no entry"),
        ("find a pianist", "copy the scores", "ask the newspaper", "test the sound"),
        ("who turns the pages", "whether the hall is heated", "what the soloist costs"),
    ),
    Topic(
        "orchard",
        ("plant pears instead of apples", "keep two hives of bees", "sell juice at the market", "let the meadow grow"),
        ("buy the trees", "mend the fence", "borrow the press", "teach the pruning"),
        ("who waters in August", "whether the well is deep enough", "what to do about the deer"),
    ),
)
OPENINGS = ("Minutes of {day}, {date}.", "Meeting on {date}, topic: {title}.", "{title}, {date}. {a} took the minutes.")
ATTENDED = (
    "Present: {a}, {b}, {c}.",
    "{a}, {b} and {c} came.",
    "{c} joined late; {a} and {b} were there from the start.",
)
IDLE = (
    "The last minutes were approved.",
    "{a} had brought cake.",
    "{b} reminded everyone of the parking rules.",
    "There was a long talk about the coffee machine.",
    "{c} told how it went last year, when nobody came.",
    "The budget was shown and nobody had questions.",
    "{a} thanked {b} for the photographs.",
    "Two letters of praise were read out.",
)
PROPOSED = ("{a} proposed to {one}.", "{a} wanted to {one}.", "The first idea, by {a}, was to {one}.")
FELL = (
    "{b} thought that too dear, and in the end all agreed to {two}.",
    "After {c} had done the sums, that was dropped; the group chose to {two}.",
    "Nobody followed. Instead it was settled to {two}.",
    "{b} was against it, and with two votes to one it was decided to {two}.",
)
STOOD = (
    "{b} had doubts, but all agreed.",
    "{c} asked about the cost, then everyone was in favour.",
    "It was settled at once.",
    "{b} would rather {two}, but found no support, and so it was decided.",
)
WAITED = (
    "{b} would rather {two}. As no agreement was found, the point was put off to the next meeting.",
    "{c} and {b} saw it differently, and the vote was put off.",
    "Whether to do that or {two} was left for next time.",
)
TAKEN = (
    "{who} will {task} by {by}.",
    "{who} offered to {task}, and has time until {by}.",
    "To {task} is up to {who}, by {by} at the latest.",
)
PASSED = (
    "{other} was to {task} but is away, so {who} does it by {by}.",
    "{other} handed over to {who}, who will {task} by {by}.",
)
ASKED = ("Nobody knew {question}.", "It stayed open {question}.", "{b} asked {question}; there was no answer.")


def row(draw: Draw) -> Row:
    topic = draw.one(TOPICS)
    a, b, c = draw.some(FIRST_NAMES, 3)
    one, two = draw.some(topic.options, 2)
    known = {"a": a, "b": b, "c": c, "one": one, "two": two, "title": topic.title.capitalize()}
    known |= {"day": draw.one(WEEKDAYS), "date": f"{draw.number(1, 28)} {draw.one(MONTHS)}"}
    decided, how = draw.one([(two, FELL), (one, STOOD), ("", WAITED)])
    who, other = draw.some((a, b, c), 2)
    known |= {"who": who, "other": other, "task": draw.one(topic.tasks), "by": draw.one(WEEKDAYS)}
    question = "" if draw.is_one_in(3) else draw.one(topic.questions)
    matters = [
        f"{draw.text(PROPOSED, **known)} {draw.text(how, **known)}",
        draw.text(PASSED if draw.is_one_in(3) else TAKEN, **known),
        *([draw.text(ASKED, question=question, **known)] if question else []),
    ]
    for idle in draw.some(IDLE, draw.number(1, 3)):
        matters.insert(draw.number(0, len(matters)), idle.format_map(known))
    text = " ".join([draw.text(OPENINGS, **known), draw.text(ATTENDED, **known), *matters])
    answer = (
        f"Decided: {f'to {decided}' if decided else 'nothing yet'}. "
        f"To do: {who} will {known['task']} by {known['by']}. Open: {question or 'nothing'}."
    )
    return {"instruction": INSTRUCTION, "input": text, "output": answer}


PACK = Pack(
    name="summarise",
    line="long texts to what matters in them: decisions, tasks, open questions",
    purpose="Summarises minutes of meetings: what was decided, who does what by when, and what is open.",
    shape="alpaca",
    scorers=("rougeL", "f1"),
    max_tokens=80,
    context=512,
    risk="A summary that names the wrong person or a proposal that fell reads as well as a right one.",
    review="every answer",
    checks="the decision, the name and the day against the text, before it is sent round",
    prompts=(f"{INSTRUCTION}\n{SHOWN}",),
    own_rows="texts and the summaries that people wrote of them; one style, for the model learns the style too",
    row=row,
)
