"""The body of a Python function from its name, types and docstring.

One grammar makes the sentence and the code: what to take (the even ones, words that end in "s"), what to make of each,
and what to make of all of them. Held-out functions are combinations that were not seen.
"""

from typing import NamedTuple

from rhapsode.tasks.draw import Draw
from rhapsode.tasks.pack import Pack, Row


class Filter(NamedTuple):
    """Words before the noun and behind it, part of a name, and the condition on <x>; <K> and <N> are constants."""

    before: str
    behind: str
    name: str
    code: str


class Change(NamedTuple):
    """What is made of each <x>; `type` is "" where it stays what it was."""

    words: str
    name: str
    code: str
    type: str = ""


class Result(NamedTuple):
    """What is made of all: <each> are the changed ones, <all> is the parameter as it is, T the type of an element."""

    words: str
    name: str
    code: str
    plain: str
    type: str


NUMBERS = ("values", "numbers", "scores", "prices", "lengths", "ages", "points", "marks", "weights", "votes")
TEXTS = ("words", "names", "lines", "titles", "cities", "labels", "tags", "keys")
LETTERS = "abcdehilmnorst"
OF_NUMBERS = (
    Filter("", "", "", ""),
    Filter("even ", "", "even", "<x> % 2 == 0"),
    Filter("odd ", "", "odd", "<x> % 2 == 1"),
    Filter("positive ", "", "positive", "<x> > 0"),
    Filter("negative ", "", "negative", "<x> < 0"),
    Filter("", " above <K>", "above_<K>", "<x> > <K>"),
    Filter("", " of at most <K>", "at_most_<K>", "<x> <= <K>"),
    Filter("", " that <K> divides", "divided_by_<K>", "<x> % <K> == 0"),
    Filter("", " other than <K>", "other_than_<K>", "<x> != <K>"),
)
OF_TEXTS = (
    Filter("", "", "", ""),
    Filter("", ' that begin with "<K>"', "beginning_with_<K>", '<x>.startswith("<K>")'),
    Filter("", ' that end with "<K>"', "ending_with_<K>", '<x>.endswith("<K>")'),
    Filter("", ' that contain "<K>"', "with_<K>", '"<K>" in <x>'),
    Filter("", " of more than <N> letters", "longer_than_<N>", "len(<x>) > <N>"),
    Filter("", " of less than <N> letters", "shorter_than_<N>", "len(<x>) < <N>"),
    Filter("", " in capitals", "in_capitals", "<x>.isupper()"),
)
NUMBERS_TO = (
    Change("", "", "<x>"),
    Change("squares of the ", "squares_of", "<x> * <x>"),
    Change("doubles of the ", "doubles_of", "2 * <x>"),
    Change("absolute values of the ", "absolute", "abs(<x>)"),
    Change("cubes of the ", "cubes_of", "<x>**3"),
    Change("halves of the ", "halves_of", "<x> / 2", "float"),
    Change("last digits of the ", "last_digits_of", "abs(<x>) % 10"),
)
TEXTS_TO = (
    Change("", "", "<x>"),
    Change("lower-case forms of the ", "lower", "<x>.lower()"),
    Change("upper-case forms of the ", "upper", "<x>.upper()"),
    Change("reversed forms of the ", "reversed", "<x>[::-1]"),
    Change("second halves of the ", "second_halves_of", "<x>[len(<x>) // 2 :]"),
    Change("stripped forms of the ", "stripped", "<x>.strip()"),
)
LISTED = Result("a list of the ", "list_of", "[<each>]", "list(<all>)", "list[T]")
SORTED = Result("a sorted list of the ", "sorted", "sorted(<each>)", "sorted(<all>)", "list[T]")
COUNTED = Result("the number of different ", "count_different", "len({<each>})", "len(set(<all>))", "int")
FIRST = Result("the first of the ", "first_of", "next((<each>), None)", "next(iter(<all>), None)", "T | None")
NUMBERS_AS = (
    Result("the sum of the ", "sum_of", "sum(<each>)", "sum(<all>)", "T"),
    Result("the largest of the ", "largest_of", "max((<each>), default=None)", "max(<all>, default=None)", "T | None"),
    Result(
        "the smallest of the ", "smallest_of", "min((<each>), default=None)", "min(<all>, default=None)", "T | None"
    ),
    LISTED,
    SORTED,
    COUNTED,
    FIRST,
)
TEXTS_AS = (
    Result(
        "the longest of the ",
        "longest_of",
        'max((<each>), key=len, default="")',
        'max(<all>, key=len, default="")',
        "str",
    ),
    Result("one text with commas between the ", "joined", '", ".join(<each>)', '", ".join(<all>)', "str"),
    Result("the total length of the ", "total_length_of", 'len("".join(<each>))', 'len("".join(<all>))', "int"),
    LISTED,
    SORTED,
    COUNTED,
    FIRST,
)


def row(draw: Draw) -> Row:
    if draw.is_one_in(2):
        drawn = draw.one(TEXTS), draw.one(OF_TEXTS), draw.one(TEXTS_TO), draw.one(TEXTS_AS)
        return function(*drawn, element="str", constants={"<K>": draw.one(LETTERS), "<N>": str(draw.number(2, 9))})
    drawn = draw.one(NUMBERS), draw.one(OF_NUMBERS), draw.one(NUMBERS_TO), draw.one(NUMBERS_AS)
    return function(*drawn, element="int", constants={"<K>": str(draw.number(2, 20))})


def function(
    many: str, wanted: Filter, change: Change, result: Result, *, element: str, constants: dict[str, str]
) -> Row:
    """The head of a function with its docstring, and its body."""
    words = f"Return {result.words}{change.words}{wanted.before}{many}{wanted.behind}."
    name = "_".join(part for part in (result.name, change.name, wanted.name, many) if part)
    each = f"{change.code} for <x> in {many}" + (f" if {wanted.code}" if wanted.code else "")
    code = result.plain if not change.name and not wanted.name else result.code
    known = {"<each>": each, "<all>": many, "<x>": {"cities": "city"}.get(many, many.removesuffix("s")), **constants}
    for mark, value in known.items():
        words, name, code = (text.replace(mark, value) for text in (words, name, code))
    returns = result.type.replace("T", change.type or element)
    head = f'def {name}({many}: list[{element}]) -> {returns}:\n    """{words}"""\n'
    return {"prompt": head, "completion": f"    return {code}"}


PACK = Pack(
    name="code",
    line="program text from a description, here Python functions from their docstrings",
    purpose="Writes the body of a small Python function from its docstring.",
    shape="completion",
    scorers=("exact", "rougeL"),
    max_tokens=64,
    context=256,
    risk="Code that looks right and is not; it runs with the rights of whoever runs it.",
    review="every answer",
    checks="that it passes tests which the model did not see, and what it touches, before it is merged",
    prompts=('def sum_of_even_scores(scores: list[int]) -> int:\n    """Return the sum of the even scores."""\n',),
    own_rows="functions of your own code base with their docstrings; leave out what is generated or copied",
    row=row,
    num_rows=480,
)
