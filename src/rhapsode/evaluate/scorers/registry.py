"""The scorers by name. Each is a module that is imported when it is asked for; a new one is a file and a line here.

Names are known without numpy, so that a recipe can be checked.
"""

import difflib
import importlib
from typing import TYPE_CHECKING, Literal, NamedTuple

from rhapsode.core.errors import RhapsodeError

if TYPE_CHECKING:
    from rhapsode.corpus.examples.check import CheckKind
    from rhapsode.evaluate.scorers.likelihoods import LikelihoodScorer
    from rhapsode.evaluate.scorers.scorer import Scorer

_HERE = "rhapsode.evaluate.scorers"


class Known(NamedTuple):
    """Where a scorer is: a function from an answer and what is wanted to 0..1, or a class; and what it says of a model.

    Attributes:
        argument: what must stand behind the name and a colon, if anything.
        is_of_labels: what is wanted is one of a few labels.
        judges: answers that the model writes, or how likely it finds those of people: of preferences, or of feedback.
        is_of_calls: tool calls are judged, of items that have tools; else words.
        needs: the objective of the only models that it judges: some do not write.
        check: the kind of a row's own check that it reads; the others read the answer that the row has.
    """

    where: str
    what: str
    argument: str = ""
    is_of_labels: bool = False
    is_of_calls: bool = False
    judges: Literal["answers", "preferences", "feedback"] = "answers"
    needs: str | None = None
    check: "CheckKind | None" = None


SCORERS = {
    "exact": Known("exact:exact", "answers that are the wanted text, to the letter"),
    "accuracy": Known("labels:accuracy", "answers that are the wanted label", is_of_labels=True),
    "recall": Known("labels:Recall", "of the items that want one label, those that get it", "LABEL", is_of_labels=True),
    "macro_f1": Known("labels:MacroF1", "the mean of every label's F1", is_of_labels=True),
    "f1": Known("words:f1", "words in common with the wanted text, as in SQuAD"),
    "rouge1": Known("rouge:rouge1", "words of the wanted text"),
    "rouge2": Known("rouge:rouge2", "pairs of words of the wanted text"),
    "rougeL": Known("rouge:rouge_l", "words of the wanted text in its order"),
    "chrf": Known("ngrams:Chrf", "pieces of words of the wanted text"),
    "bleu": Known("ngrams:Bleu", "runs of words of the wanted text"),
    "number": Known("number:number", "answers that come to the wanted number", check="number"),
    "number_near": Known("number:number_near", "how near answers come to the wanted number", check="number"),
    "json": Known("json_fields:json_fields", "fields of the wanted JSON value"),
    "json_schema": Known("json_schema:json_schema", "answers that are JSON of the wanted shape", check="json_schema"),
    "chosen": Known("exact:exact", "pairs of which the chosen answer gets the higher reward", needs="reward"),
    "recall@1": Known("ranks:recall_at_1", "queries whose passage is the nearest", needs="embed"),
    "recall@5": Known("ranks:recall_at_5", "queries whose passage is among the five nearest", needs="embed"),
    "recall@10": Known("ranks:recall_at_10", "queries whose passage is among the ten nearest", needs="embed"),
    "mrr": Known("ranks:reciprocal_rank", "1 / the place of a query's passage among the ten nearest", needs="embed"),
    "ndcg@10": Known(
        "ranks:discounted_gain", "discounted gain of a query's passage among the ten nearest", needs="embed"
    ),
    "unit_tests": Known("unit_tests:unit_tests", "programs that pass their tests", check="unit_tests"),
    "tool_calls": Known(
        "tool_calls:tool_calls", "answers that call what is wanted, and nothing else", is_of_calls=True
    ),
    "tool_fields": Known("tool_calls:tool_fields", "names and arguments of the wanted tool calls", is_of_calls=True),
    "tool_schema": Known("tool_calls:tool_schema", "answers whose tool calls their tools would take", is_of_calls=True),
}
"""Of answers."""
LIKELIHOODS = {
    "pairs": Known("whole", "pairs of which the chosen answer is the likelier", judges="preferences"),
    "pairs_per_token": Known(
        "token", "pairs of which the chosen answer is the likelier, token by token", judges="preferences"
    ),
    "pairs_reward": Known(
        "reward",
        "pairs of which the chosen answer has become likelier than the rejected one, beside what both were before",
        judges="preferences",
    ),
    "feedback_per_token": Known(
        "token", "how often a good answer is likelier than a bad one, token by token", judges="feedback"
    ),
    "feedback_reward": Known(
        "reward",
        "how often a good answer has become likelier than a bad one, beside what both were before",
        judges="feedback",
    ),
}
"""Of how likely a model finds answers that people judged, by what of them is compared (`scorers/likelihoods.py`)."""


def known(name: str) -> Known:
    """What is known of the scorer of this name, such as `accuracy` or `recall:out_of_scope`.

    Raises:
        RhapsodeError: there is none, or its argument is missing or too much.
    """
    plain, colon, argument = name.partition(":")
    every = SCORERS | LIKELIHOODS
    if plain not in every:
        near = difflib.get_close_matches(plain, every, n=1)
        raise RhapsodeError(
            f"there is no scorer called {plain!r}",
            f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(every)}",
        )
    found = every[plain]
    if found.argument and not argument.strip():
        raise RhapsodeError(f"the scorer {plain!r} needs to know of what", f"write {plain}:{found.argument}")
    if colon and not found.argument:
        raise RhapsodeError(f"the scorer {plain!r} takes nothing behind its name, not {argument!r}", f"write {plain}")
    return found


def scorer(name: str) -> "Scorer":
    """The scorer of answers of this name.

    Raises:
        RhapsodeError: as `known`, or it judges no answers.
    """
    from rhapsode.evaluate.scorers.scorer import Mean

    if known(name).judges != "answers":
        raise RhapsodeError(f"{name} judges likelihoods and no answers", f"take one of {', '.join(SCORERS)}")
    module, _, attribute = known(name).where.partition(":")
    found = getattr(importlib.import_module(f"{_HERE}.{module}"), attribute)
    if not isinstance(found, type):
        return Mean(name, found)
    made: Scorer = found(name.partition(":")[2]) if known(name).argument else found()
    return made


def likelihood_scorer(name: str) -> "LikelihoodScorer":
    """The scorer of likelihoods of this name. Raises: RhapsodeError: as `known`, or it judges answers."""
    from rhapsode.evaluate.scorers.likelihoods import MEASURES, Feedback, Pairs

    if (found := known(name)).judges == "answers":
        raise RhapsodeError(f"{name} judges answers and no likelihoods", f"take one of {', '.join(LIKELIHOODS)}")
    measure = MEASURES[found.where]
    return Pairs(name, measure) if found.judges == "preferences" else Feedback(name, measure)
