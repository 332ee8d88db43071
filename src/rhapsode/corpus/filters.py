"""Quality rules: a measure, a threshold in the configuration, and a name that a person understands.

The first rule that a document breaks is its reason. Rules stand in the order in which they are tried, cheap ones first.
A new rule is one measure, one field in `corpus/config.py` and one line here; a rule applies wherever the configuration
has its field, so prose and code have the rules and the thresholds that suit them.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from rhapsode.core.config import Config
from rhapsode.corpus import measures
from rhapsode.corpus.config import CleanConfig
from rhapsode.corpus.documents import Kind
from rhapsode.corpus.measures import Body


class Rule(NamedTuple):
    """`field` begins with "min_" or "max_" and names the threshold that `measure` must not pass."""

    name: str
    field: str
    measure: Callable[[Body], float]


class Failure(NamedTuple):
    """Why a document is dropped: the rule's name, and the number that decided."""

    reason: str
    detail: str


RULES = (
    Rule("too short", "min_chars", measures.num_chars),
    Rule("too long", "max_chars", measures.num_chars),
    Rule("generated file", "max_generated_notices", measures.generated_notices),
    Rule("unreadable characters", "max_replacement_share", measures.replacement_share),
    Rule("control characters", "max_control_share", measures.control_share),
    Rule("encoded data", "max_encoded_share", measures.encoded_share),
    Rule("long line", "max_line_chars", measures.longest_line),
    Rule("long lines on the whole", "max_mean_line_chars", measures.mean_line),
    Rule("few letters and digits", "min_alphanumeric_share", measures.alphanumeric_share),
    Rule("placeholder text", "max_lorem_ipsum_share", measures.lorem_ipsum_share),
    Rule("data table", "max_data_line_share", measures.data_line_share),
    Rule("repeated lines", "max_repeated_line_share", measures.repeated_line_share),
    Rule("repeated phrases", "max_repeated_ngram_share", measures.repeated_ngram_share),
)


class Active(NamedTuple):
    """A rule with the threshold that the configuration gives it."""

    rule: Rule
    threshold: float


def active(config: CleanConfig, *, kind: Kind) -> tuple[Active, ...]:
    """The rules that are turned on for a kind of text, in the order of `RULES`."""
    sections: tuple[Config, ...] = (config, config.prose if kind == "prose" else config.code)
    return tuple(
        Active(rule, threshold)
        for rule in RULES
        for section in sections
        if rule.field in type(section).model_fields and (threshold := getattr(section, rule.field)) is not None
    )


def first_failure(body: Body, rules: Iterable[Active]) -> Failure | None:
    """The first rule that the text breaks."""
    for rule, threshold in rules:
        value = rule.measure(body)
        is_least = rule.field.startswith("min_")
        if value < threshold if is_least else value > threshold:
            return Failure(rule.name, f"{value:.4g}, the {'least' if is_least else 'most'} is {threshold:.4g}")
    return None
