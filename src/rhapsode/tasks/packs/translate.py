"""English sentences and their German, from one grammar of both.

German moves its verbs and bends its articles and adjectives, so every sentence has something to learn that its words
alone do not tell: case and gender, the verb in second place after a time, at the end after a modal, in the perfect and
behind "weil", and prefixes that part from their verb.
"""

from typing import NamedTuple

from rhapsode.tasks.draw import Draw
from rhapsode.tasks.pack import Pack, Row


class Noun(NamedTuple):
    """A word, the German for it and its gender."""

    english: str
    german: str
    gender: str


class Verb(NamedTuple):
    """English: now, then, with "to". German: third person, infinitive, participle, and a prefix that parts from it."""

    now: str
    then: str
    plain: str
    german: str
    infinitive: str
    participle: str
    objects: str
    prefix: str = ""


class Phrase(NamedTuple):
    """The same in both."""

    english: str
    german: str


PEOPLE = (
    Noun("man", "Mann", "m"), Noun("woman", "Frau", "f"), Noun("child", "Kind", "n"), Noun("girl", "Mädchen", "n"),
    Noun("neighbour", "Nachbar", "m"), Noun("teacher", "Lehrerin", "f"), Noun("doctor", "Ärztin", "f"),
    Noun("gardener", "Gärtner", "m"), Noun("baker", "Bäcker", "m"), Noun("cook", "Köchin", "f"),
    Noun("engineer", "Ingenieur", "m"), Noun("grandmother", "Großmutter", "f"), Noun("uncle", "Onkel", "m"),
    Noun("actress", "Schauspielerin", "f"), Noun("farmer", "Bauer", "m"), Noun("aunt", "Tante", "f"),
)  # fmt: skip
OBJECTS = {
    "text": (
        Noun("book", "Buch", "n"), Noun("letter", "Brief", "m"), Noun("newspaper", "Zeitung", "f"),
        Noun("report", "Bericht", "m"), Noun("map", "Karte", "f"), Noun("recipe", "Rezept", "n"),
    ),
    "machine": (
        Noun("bicycle", "Fahrrad", "n"), Noun("car", "Auto", "n"), Noun("lamp", "Lampe", "f"),
        Noun("clock", "Uhr", "f"), Noun("computer", "Computer", "m"), Noun("oven", "Ofen", "m"),
    ),
    "thing": (
        Noun("basket", "Korb", "m"), Noun("chair", "Stuhl", "m"), Noun("coat", "Mantel", "m"),
        Noun("bottle", "Flasche", "f"), Noun("picture", "Bild", "n"), Noun("suitcase", "Koffer", "m"),
        Noun("bag", "Tasche", "f"), Noun("shirt", "Hemd", "n"),
    ),
    "food": (
        Noun("soup", "Suppe", "f"), Noun("loaf", "Brot", "n"), Noun("cake", "Kuchen", "m"), Noun("apple", "Apfel", "m"),
        Noun("pear", "Birne", "f"), Noun("fish", "Fisch", "m"), Noun("egg", "Ei", "n"),
    ),
}  # fmt: skip
VERBS = (
    Verb("reads", "read", "read", "liest", "lesen", "gelesen", "text"),
    Verb("repairs", "repaired", "repair", "repariert", "reparieren", "repariert", "machine"),
    Verb("carries", "carried", "carry", "trägt", "tragen", "getragen", "thing"),
    Verb("picks up", "picked up", "pick up", "holt", "abholen", "abgeholt", "thing machine", "ab"),
    Verb(
        "brings along", "brought along", "bring along", "bringt", "mitbringen", "mitgebracht", "thing food text", "mit"
    ),
    Verb("eats", "ate", "eat", "isst", "essen", "gegessen", "food"),
    Verb("buys", "bought", "buy", "kauft", "kaufen", "gekauft", "thing food machine text"),
    Verb("sells", "sold", "sell", "verkauft", "verkaufen", "verkauft", "thing food machine"),
    Verb("finds", "found", "find", "findet", "finden", "gefunden", "thing text machine"),
    Verb("loses", "lost", "lose", "verliert", "verlieren", "verloren", "thing text"),
    Verb("sees", "saw", "see", "sieht", "sehen", "gesehen", "thing text machine food"),
)
OF_PEOPLE = (
    Phrase("old", "alt"), Phrase("young", "jung"), Phrase("tired", "müd"), Phrase("friendly", "freundlich"),
    Phrase("quiet", "still"), Phrase("happy", "froh"),
)  # fmt: skip
OF_OBJECTS = (
    Phrase("old", "alt"), Phrase("new", "neu"), Phrase("small", "klein"), Phrase("big", "groß"), Phrase("red", "rot"),
    Phrase("heavy", "schwer"), Phrase("beautiful", "schön"), Phrase("cheap", "billig"), Phrase("strange", "seltsam"),
)  # fmt: skip
PLACES = (
    Phrase("in the garden", "im Garten"), Phrase("at the station", "am Bahnhof"),
    Phrase("at the market", "auf dem Markt"), Phrase("in the kitchen", "in der Küche"),
    Phrase("in front of the house", "vor dem Haus"), Phrase("at school", "in der Schule"),
    Phrase("behind the church", "hinter der Kirche"),
)  # fmt: skip
TIMES = (
    Phrase("every week", "jede Woche"), Phrase("in summer", "im Sommer"), Phrase("in the evening", "am Abend"),
    Phrase("today", "heute"), Phrase("on Monday", "am Montag"), Phrase("sometimes", "manchmal"),
)  # fmt: skip
THEN = (
    Phrase("yesterday", "gestern"), Phrase("last week", "letzte Woche"), Phrase("on Tuesday", "am Dienstag"),
    Phrase("two days ago", "vor zwei Tagen"),
)  # fmt: skip
MODALS = (Phrase("can", "kann"), Phrase("must", "muss"), Phrase("wants to", "will"), Phrase("should", "soll"))
STATES = (Phrase("is glad", "freut sich"), Phrase("is waiting", "wartet"), Phrase("is laughing", "lacht"))

THE = {"nominative": {"m": "der", "f": "die", "n": "das"}, "accusative": {"m": "den", "f": "die", "n": "das"}}
ONE = {"nominative": {"m": "", "f": "e", "n": ""}, "accusative": {"m": "en", "f": "e", "n": ""}}
STEMS = {"a": "ein", "my": "mein", "our": "unser"}
MIXED = {"nominative": {"m": "er", "f": "e", "n": "es"}, "accusative": {"m": "en", "f": "e", "n": "es"}}
WEAK = {"nominative": {"m": "e", "f": "e", "n": "e"}, "accusative": {"m": "en", "f": "e", "n": "e"}}


def noun_phrase(article: str, adjective: Phrase | None, noun: Noun, case: str) -> Phrase:
    """An article ("the", "a", "my" or "our") with its noun, in the nominative or the accusative."""
    english = " ".join([*([adjective.english] if adjective else []), noun.english])
    shown = "an" if article == "a" and english[0] in "aeiou" else article
    if article == "the":
        determiner, ending = THE[case][noun.gender], WEAK[case][noun.gender]
    else:
        determiner, ending = STEMS[article] + ONE[case][noun.gender], MIXED[case][noun.gender]
    german = [determiner, *([adjective.german + ending] if adjective else []), noun.german]
    return Phrase(f"{shown} {english}", " ".join(german))


def row(draw: Draw) -> Row:
    verb = draw.one(VERBS)
    who = _drawn(draw, PEOPLE, OF_PEOPLE, "nominative")
    kind = draw.one(verb.objects.split())
    what = _drawn(draw, OBJECTS[kind], OF_OBJECTS, "accusative")
    place = draw.one(PLACES) if draw.is_one_in(2) else Phrase("", "")
    english, german = draw.one((_statement, _timed, _past, _modal, _question, _denied, _because))(
        draw, verb, who, what, place
    )
    return {"en": _sentence(english), "de": _sentence(german)}


def _drawn(draw: Draw, nouns: tuple[Noun, ...], adjectives: tuple[Phrase, ...], case: str) -> Phrase:
    adjective = draw.one(adjectives) if draw.is_one_in(2) else None
    return noun_phrase(draw.one(("the", "the", "a", "my", "our")), adjective, draw.one(nouns), case)


def _statement(_: Draw, verb: Verb, who: Phrase, what: Phrase, place: Phrase) -> Phrase:
    return Phrase(
        f"{who.english} {verb.now} {what.english} {place.english}.",
        f"{who.german} {verb.german} {what.german} {place.german} {verb.prefix}.",
    )


def _timed(draw: Draw, verb: Verb, who: Phrase, what: Phrase, place: Phrase) -> Phrase:
    when = draw.one(TIMES)
    return Phrase(
        f"{when.english} {who.english} {verb.now} {what.english} {place.english}.",
        f"{when.german} {verb.german} {who.german} {what.german} {place.german} {verb.prefix}.",
    )


def _past(draw: Draw, verb: Verb, who: Phrase, what: Phrase, place: Phrase) -> Phrase:
    when = draw.one(THEN)
    return Phrase(
        f"{when.english} {who.english} {verb.then} {what.english} {place.english}.",
        f"{when.german} hat {who.german} {what.german} {place.german} {verb.participle}.",
    )


def _modal(draw: Draw, verb: Verb, who: Phrase, what: Phrase, place: Phrase) -> Phrase:
    modal = draw.one(MODALS)
    return Phrase(
        f"{who.english} {modal.english} {verb.plain} {what.english} {place.english}.",
        f"{who.german} {modal.german} {what.german} {place.german} {verb.infinitive}.",
    )


def _question(_: Draw, verb: Verb, who: Phrase, what: Phrase, place: Phrase) -> Phrase:
    return Phrase(
        f"does {who.english} {verb.plain} {what.english} {place.english}?",
        f"{verb.german} {who.german} {what.german} {place.german} {verb.prefix}?",
    )


def _denied(_: Draw, verb: Verb, who: Phrase, what: Phrase, place: Phrase) -> Phrase:
    """Of "a book" the German is "no book"; of "the book", "not" stands behind it."""
    if what.english.startswith(("a ", "an ")):
        return Phrase(
            f"{who.english} does not {verb.plain} {what.english} {place.english}.",
            f"{who.german} {verb.german} k{what.german} {place.german} {verb.prefix}.",
        )
    return Phrase(
        f"{who.english} does not {verb.plain} {what.english}.",
        f"{who.german} {verb.german} {what.german} nicht {verb.prefix}.",
    )


def _because(draw: Draw, verb: Verb, who: Phrase, what: Phrase, place: Phrase) -> Phrase:
    other, state = _drawn(draw, PEOPLE, OF_PEOPLE, "nominative"), draw.one(STATES)
    together = verb.prefix + verb.german
    return Phrase(
        f"{other.english} {state.english} because {who.english} {verb.now} {what.english} {place.english}.",
        f"{other.german} {state.german}, weil {who.german} {what.german} {place.german} {together}.",
    )


def _sentence(text: str) -> str:
    """One space between words, none before a point, a capital first."""
    words = " ".join(text.split()).replace(" .", ".").replace(" ?", "?")
    return words[0].upper() + words[1:]


PACK = Pack(
    name="translate",
    line="sentences from one language to another, here English to German",
    purpose="Translates simple English sentences into German.",
    shape="alpaca",
    templates={"instruction": "Translate into German: {en}", "output": "{de}"},
    scorers=("chrf", "bleu"),
    max_tokens=64,
    context=256,
    risk="A translation can be fluent and say the opposite; a small model does so with names, numbers and negations.",
    review="every answer",
    checks="names, numbers and negations by somebody who reads both languages, before it is published",
    prompts=("Translate into German: Yesterday my old neighbour did not find the red bag.",),
    own_rows="pairs of sentences from your own documents, as columns of a table; terms spelled one way",
    row=row,
    languages=("en", "de"),
    num_rows=600,
)
