"""Messages that book a table to the booking as JSON.

What people write about one thing is spelled in many ways and corrected on the way: the time is "half past seven", the
party is "my parents and the two of us", and the Tuesday is after all a Wednesday. What is not said is null, never
guessed.
"""

import json

from rhapsode.tasks.draw import Draw
from rhapsode.tasks.pack import Pack, Row
from rhapsode.tasks.words import FIRST_NAMES, MONTHS, SURNAMES

PROMPT = "Write this booking as JSON with name, people, date, time, phone and needs.\n\n{text}\n\nJSON:\n"
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
PARTIES: tuple[tuple[str, int], ...] = (
    ("the two of us", 2), ("my wife and me", 2), ("my parents and the two of us", 4), ("me alone", 1),
    ("a couple with three children", 5), ("me and three colleagues", 4), ("my sister, her two boys and me", 4),
    ("a party of ten", 10), ("eight adults and a baby", 9), ("me, my husband and both grandmothers", 4),
)  # fmt: skip
NEEDS = (
    "a high chair", "a table outside", "a quiet corner", "vegetarian food", "room for a wheelchair",
    "water for the dog", "gluten-free bread", "a birthday cake",
)  # fmt: skip
ASKED = (
    "I would like to book a table for {people} on {date} at {time}.",
    "Could you keep a table for {people}, {date}, {time}?",
    "We would love to come on {date} around {time}. It is for {people}.",
    "Is there a table for {people} at {time} on {date}?",
    "{date}, {time}, {people}: is that possible?",
    "Please reserve for {people}. We arrive at {time} on {date}.",
)
MOVED = (
    "I had booked for {other}, but it has to be {date} now, at {time}, for {people}.",
    "Not {other} as I said on the telephone but {date}. Still at {time} and for {people}.",
    "We cannot make {other}. Would {date} at {time} do, for {people}?",
)
SIGNED = ("The name is {name}.", "Please put it under {name}.", "Thanks, {name}", "Regards, {name}", "{name} speaking.")
CALLED = ("You reach me at {phone}.", "My number is {phone}.", "Tel. {phone}", "Call {phone} if anything changes.")
WISHED = ("We need {needs}.", "If possible {needs}, please.", "It would be nice to have {needs}.", "Also: {needs}.")
IDLE = (
    "We loved the fish last time.", "A friend told me about you.", "Is the terrace heated?", "Do you take cards?",
    "Last year we were twelve.", "We come straight from the theatre.",
)  # fmt: skip


def row(draw: Draw) -> Row:
    people, num_people = _people(draw)
    date, as_date, other = _date(draw)
    time, as_time = _time(draw)
    name = draw.one((f"{draw.one(FIRST_NAMES)} {draw.one(SURNAMES)}", draw.one(SURNAMES)))
    phone = None if draw.is_one_in(2) else f"0{draw.number(20, 99)} {draw.number(100, 999)} {draw.number(100, 999)}"
    needs = draw.some(NEEDS, draw.one((0, 0, 1, 1, 2)))
    known = {"people": people, "date": date, "other": other, "time": time, "name": name}
    sentences = [draw.text(MOVED if draw.is_one_in(4) else ASKED, **known)]
    if needs:
        sentences.append(draw.text(WISHED, needs=" and ".join(needs)))
    if draw.is_one_in(2):
        sentences.insert(draw.number(0, len(sentences)), draw.one(IDLE))
    if phone:
        sentences.append(draw.text(CALLED, phone=phone))
    sentences.append(draw.text(SIGNED, name=name))
    text = " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)
    booking = {
        "name": name, "people": num_people, "date": as_date, "time": as_time, "phone": phone, "needs": needs or None,
    }  # fmt: skip
    return {"prompt": PROMPT.format(text=text), "completion": json.dumps(booking, ensure_ascii=False)}


def _people(draw: Draw) -> tuple[str, int]:
    count = draw.number(2, 12)
    return draw.one([(f"{count} people", count), (WORDS[count], count), (f"{WORDS[count]} of us", count), *PARTIES])


def _date(draw: Draw) -> tuple[str, str, str]:
    """A day as people write it, as JSON has it, and another day of that month."""
    month, (day, other) = draw.number(1, 12), draw.some(range(1, 29), 2)
    name, end = MONTHS[month - 1], "th" if 4 <= day <= 20 or day >= 24 else ("st", "nd", "rd")[day % 10 - 1]
    written = (f"{day} {name}", f"{name} {day}", f"the {day}{end} of {name}", f"{day} {name[:3]}", f"{day}/{month}")
    return draw.one(written), f"{month:02}-{day:02}", f"{other} {name}"


def _time(draw: Draw) -> tuple[str, str]:
    hour, past = draw.number(17, 21), draw.one((0, 0, 15, 30, 45))
    clock, spoken = f"{hour}:{past:02}", WORDS[hour - 12]
    words = {
        0: f"{spoken} o'clock in the evening",
        15: f"a quarter past {spoken}",
        30: f"half past {spoken}",
        45: f"a quarter to {WORDS[hour - 11]}",
    }
    short = f"{hour - 12} pm" if past == 0 else f"{hour - 12}:{past:02} pm"
    return draw.one((clock, words[past], short)), clock


PACK = Pack(
    name="extract",
    line="facts out of free text as JSON, with null for what is not said",
    purpose="Writes messages that book a table as JSON.",
    shape="completion",
    scorers=("json", "exact"),
    max_tokens=96,
    context=384,
    risk="A value that was guessed looks like one that was read, and goes on into other systems unseen.",
    review="a sample",
    checks="whether every value stands in the text; let a program refuse what is not JSON of the right fields",
    prompts=(
        PROMPT.format(text="Is there a table for me and three colleagues at half past six on 3 May? Regards, Adler"),
    ),
    own_rows="letters, forms or notes beside the record that was made of them, with one order of the fields",
    row=row,
)
