"""Messages to the team that can help: one label out of eight.

Each message has one matter, and often something beside it that sounds like another team's: what went well, what was
settled long ago. Rows are plain columns, text and label; the recipe's templates make prompts of them.
"""

from rhapsode.tasks.draw import Draw
from rhapsode.tasks.pack import Pack, Row
from rhapsode.tasks.words import CITIES, FIRST_NAMES, WEEKDAYS

MATTERS: dict[str, tuple[str, ...]] = {
    "billing": (
        "I was charged {n} euros twice",
        "the invoice of {day} has the wrong address",
        "there is a fee of {n} euros that nobody can explain",
        "my card was declined although there is money on it",
        "the discount is missing from the bill",
        "I need the receipt again for my taxes",
        "you still take {n} euros a month after the price went down",
    ),
    "delivery": (
        "the {thing} never came to {city}",
        "the driver left the {thing} in the rain",
        "the tracking has said the same since {day}",
        "half of the parcel is missing",
        "the {thing} went to my old address in {city}",
        "nobody rang and now the {thing} goes back to you",
        "please let the {thing} come after {day}, we are away",
    ),
    "returns": (
        "the {thing} is the wrong size and I want to send it back",
        "where do I get a label to send the {thing} back",
        "I would like to exchange the {thing} for a larger one",
        "the shop in {city} would not take the {thing} back",
        "may the {thing} go back without its box",
        "I sent the {thing} back on {day} and nobody confirms it",
    ),
    "technical": (
        "the app closes whenever I open the map",
        "the screen of the {thing} stays black",
        "the {thing} loses its connection after {n} minutes",
        "since the update on {day} nothing loads any more",
        "the page shows error {n} when I press save",
        "the {thing} makes a clicking noise and stops",
        "the sound is a second late on the {thing}",
    ),
    "account": (
        "I cannot log in since I changed my telephone",
        "the mail to reset my password never arrives",
        "somebody in {city} has logged in under my name",
        "please change my name to {name} after the wedding",
        "I have two accounts and want one",
        "how do I delete my account",
        "the code that you text me is always wrong",
    ),
    "cancellation": (
        "I want to end my contract at the end of the month",
        "please stop the subscription before {day}",
        "we move to {city} and no longer need the service",
        "I ordered the {thing} by mistake, do not send it",
        "my mother has died and her contract must end",
        "the trial is over and I do not want to go on",
    ),
    "sales": (
        "does the {thing} come in green",
        "what would {n} of the {thing} cost us",
        "which {thing} would you recommend for a small flat",
        "is there a discount for schools",
        "when will the new {thing} be in the shop in {city}",
        "can I see the {thing} somewhere before I buy it",
        "we would like an offer for {n} people",
    ),
    "praise": (
        "{name} at your desk in {city} was wonderful",
        "I only wanted to say that the {thing} is the best I ever had",
        "your driver carried the {thing} up four floors, thank you",
        "in {n} years nobody has helped me as fast as {name}",
        "please tell {name} that everything works now",
        "my children love the {thing}",
    ),
}
BESIDE: dict[str, tuple[str, ...]] = {
    "billing": ("The bill was right this time.", "I paid on {day}.", "The refund of last year is settled."),
    "delivery": ("The parcel itself came on {day}.", "Delivery to {city} was quick.", "The driver was friendly."),
    "returns": ("I do not want to send it back.", "The exchange in spring went well.", "I have kept the box."),
    "technical": ("Otherwise the {thing} works.", "The app is fine.", "I have restarted everything."),
    "account": ("I can log in.", "My name is still {name}.", "The password is not the problem."),
    "cancellation": (
        "I do not want to cancel.",
        "The contract runs until next year.",
        "I have been with you for {n} years.",
    ),
    "sales": ("I bought it in {city}.", "It was on offer.", "{name} sold it to me."),
}
THINGS = (
    "headset", "router", "lamp", "camera", "speaker", "charger", "tablet", "printer", "doorbell", "telephone", "heater",
    "radio", "projector", "drill", "watch", "keyboard",
)  # fmt: skip
PROMPT = f"Which team is this message for: {', '.join(MATTERS)}?\n\nMessage: {{text}}\nTeam:\n"
STARTS = ("", "", "", "Hello, ", "Hi, ", "Dear team, ", "Once more: ", "To whom it may concern, ")
ENDS = ("", "", "", " {name}", " Regards, {name}", " Please help.", " Sent from my phone")


def row(draw: Draw) -> Row:
    label, matters = draw.pick(MATTERS)
    known = {
        "thing": draw.one(THINGS),
        "city": draw.one(CITIES),
        "day": draw.one(WEEKDAYS),
        "name": draw.one(FIRST_NAMES),
        "n": str(draw.number(2, 90)),
    }
    matter = draw.text(matters, **known)
    matter += (
        "?"
        if matter.startswith(("does ", "what ", "which ", "is ", "when ", "can ", "may ", "where ", "how "))
        else "."
    )
    sentences = [matter]
    if not draw.is_one_in(3):
        beside = draw.one([texts for name, texts in BESIDE.items() if name != label])
        sentences.insert(draw.number(0, 1), draw.text(beside, **known))
    start = draw.one(STARTS)
    text = start + " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences) + draw.text(ENDS, **known)
    return {"text": _typed(draw, text), "label": label}


def _typed(draw: Draw, text: str) -> str:
    """As people type: some in small letters, some with a letter lost."""
    if draw.is_one_in(4):
        text = text.lower()
    letters = [place for place in range(1, len(text) - 1) if text[place - 1 : place + 2].isalpha()]
    if draw.is_one_in(4):
        place = draw.one(letters)
        text = text[:place] + text[place + 1 :]
    return text


PACK = Pack(
    name="classify",
    line="texts to one label out of a list: intents, topics, queues, moods",
    purpose="Says which of eight teams a message is for.",
    shape="completion",
    templates={
        "prompt": PROMPT,
        "completion": "{label}",
    },
    scorers=("accuracy", "macro_f1"),
    max_tokens=8,
    context=256,
    risk="A message in the wrong queue waits there, and what is rare is wrong most often.",
    review="a sample",
    checks="a few of every label each week, the rare labels first; add what was wrong to the rows",
    prompts=(PROMPT.replace("{text}", "The driver was friendly, but my bill is wrong."),),
    own_rows="messages and the queue in which they were solved; at least 30 of every label",
    row=row,
    num_rows=480,
)
