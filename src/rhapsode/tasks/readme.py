"""The page of a new project: what it is, five steps, what to replace, and who looks at what the model says."""

import json
from pathlib import Path

from rhapsode.tasks.pack import Pack, Row
from rhapsode.tasks.recipe import ROWS, VALIDATION

_PAGE = """\
# {title}

{purpose}

Made by `rhapsode new {name}`: `recipe.yaml` says everything, `{rows}` has {num_rows} made-up rows to begin with.
It works as it is; it becomes useful with rows of your own.

## Five steps

| step | here | command |
|---|---|---|
| 1. Identify the task | `task:` and this page: purpose, risks, who looks at what | |
| 2. Select a model | `model.base`: {base} | `rhapsode models` |
| 3. Prepare the data | `data:`; faults are told with line and column; nothing is cut | `rhapsode plan recipe.yaml` |
| 4. Fine-tune | `train:`; the plan shows time, memory and what is learned | `rhapsode run recipe.yaml` |
| 5. Evaluate, iterate | `evaluate:`; before and after, side by side | `out/runs/{name}/report.html` |

```console
{pull}$ rhapsode plan recipe.yaml
$ rhapsode run recipe.yaml
$ {chat}
$ rhapsode serve out/runs/{name}
```

## Your own rows

Good rows are {own_rows}.
A few hundred are enough to see whether it works; some thousand make it good.

{shape}

```json
{row}
```

`rhapsode plan recipe.yaml` reads all of them first and names whatever is wrong with its line. Text that you may not
use, and people's names and numbers, do not belong there: a model can repeat what it has learned.

## How it is judged

By {scorers}, on {validation} of the rows, which are never trained on, beside the model as it was. No difference is
called no difference. Rows of one making are easier than those of life: judge with your own.

## Risks and review

- **Risk.** {risk}
- **Review: {review}.** A person looks at {checks}.
- What it says are drafts. Whoever uses one answers for it.
"""
_SHAPES = {
    "openai": "A row has `messages`, as in OpenAI's API, and `tools` where there are any. A table of questions and\n"
    "answers (.csv) becomes that with `fields: {question: instruction, answer: output}` below its path. A row:",
    "completion": "A row has `prompt` and `completion`, both plain text:",
    "alpaca": "A row has `instruction`, `input` and `output`:",
    "sharegpt": "A row has `conversations`, turns of `from` (human, gpt) and `value`:",
}


def readme_text(pack: Pack, *, base: str, rows: list[Row]) -> str:
    """The page; `base` is what the recipe calls the model to start from."""
    pull = "" if Path(base).is_absolute() else f"$ rhapsode models pull {base}    # once\n"
    columns = " and ".join(f"`{name}`" for name in rows[0])
    return _PAGE.format(
        title=pack.name.capitalize(),
        purpose=pack.purpose,
        name=pack.name,
        rows=ROWS,
        num_rows=len(rows),
        base=base,
        pull=pull,
        chat=f"rhapsode chat out/runs/{pack.name}" + ("" if pack.is_conversation else " --complete"),
        own_rows=pack.own_rows,
        shape=f"A row has {columns}, of which `templates` in the recipe makes the prompt:"
        if pack.templates
        else _SHAPES[pack.shape],
        row=json.dumps(min(rows, key=_length), ensure_ascii=False, indent=1),
        scorers=" and ".join(f"`{name}`" for name in pack.scorers),
        validation=f"{VALIDATION:.0%}",
        risk=pack.risk,
        review=pack.review,
        checks=pack.checks,
    )


def _length(row: Row) -> int:
    return len(json.dumps(row, ensure_ascii=False))
