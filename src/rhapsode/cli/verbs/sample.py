"""`rhapsode sample`: texts that a model writes from nothing, as a file to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from rhapsode.cli import options
from rhapsode.cli.console import give

Positive = validators.Number(gte=1)


def sample(
    model: options.Model,
    /,
    *,
    count: Annotated[int, Parameter(name="--texts", help="How many.", validator=Positive)] = 400,
    max_tokens: Annotated[
        int,
        Parameter(
            name="--max-tokens", help="Longest text, in tokens; below the recipe's model.context.", validator=Positive
        ),
    ] = 120,
    temperature: Annotated[
        float, Parameter(name="--temperature", help="1 is as likely as the model finds them.")
    ] = 1.0,
    seed: Annotated[int, Parameter(name="--seed", help="The same seed gives the same texts.")] = 0,
    to: Annotated[Path, Parameter(name="--to", help="The file to write, JSON Lines; it must not exist.")] = Path(
        "samples.jsonl"
    ),
    json: options.Json = False,
) -> None:
    """Let a model write texts of its own. Learned beside a task's examples they keep it from forgetting.

    Name the file in the recipe: data.examples: - {path: samples.jsonl, split: train, licence: that of the model}
    """
    from json import dumps

    from rhapsode.cli.models import find_model
    from rhapsode.cli.progress import watched
    from rhapsode.core.errors import RhapsodeError
    from rhapsode.corpus.examples.checks import problems
    from rhapsode.corpus.examples.example import Text, to_value
    from rhapsode.engine.load import load_engine
    from rhapsode.engine.texts import AT_ONCE, write_texts
    from rhapsode.evaluate.answers import write_lines

    if to.exists():
        raise RhapsodeError(f"{to} is there already", "name another file with --to, or remove it")
    directory = find_model(model)
    with watched() as events:
        loaded = load_engine(directory, config=AT_ONCE)
        found = write_texts(
            loaded, count=count, max_tokens=max_tokens, temperature=temperature, seed=seed, events=events
        )
    texts = [text for text in (Text(*one) for one in found) if not any(problems(text))]
    write_lines(to, [dumps(to_value(text), ensure_ascii=False) for text in texts])
    result = {
        "path": str(to),
        "texts": len(texts),
        "cut": sum(text.is_cut for text in texts),
        "left_out": count - len(texts),
    }
    give(result, as_json=json, show=lambda console: console.print(_told(result), soft_wrap=True))


def _told(result: dict[str, object]) -> str:
    told = f"{result['texts']} texts in {result['path']}, {result['cut']} of them cut at the most tokens"
    return f"{told}; {result['left_out']} are left out: empty, or with characters that are no text"
