"""The model card of a checkpoint: README.md with the front matter that model hubs read."""

from rhapsode.core.units import format_count
from rhapsode.core.yaml import write_yaml
from rhapsode.recipe.plan import Plan
from rhapsode.weights.checkpoint import TrainingState

BODY = """\
# {name}

{purpose}

A {family}-shaped decoder of {parameters} parameters, trained from scratch by Rhapsode. This is step {step} of {steps},
after {tokens} tokens.

## Data

{sources}

Documents are cleaned, deduplicated and split before anything is sampled; held-out documents were never trained on.

## Use

What this model writes is a draft for a person to check. It invents facts, repeats what its training text says, right or
wrong, and may repeat parts of that text word for word.

    rhapsode chat {path}

or `transformers.AutoModelForCausalLM.from_pretrained(...)`.

## Evidence

- plan `{plan}`
- `manifest.json` holds the sha256 of every file here and of everything it was made from
- measurements of the finished model are in `report.json` and `report.html` of the run
"""


def card_text(plan: Plan, state: TrainingState) -> str:
    """Front matter and text; only what is known while training, so that every checkpoint carries it."""
    task, spec = plan.recipe.task, plan.train.spec
    licences = sorted({source.licence for source in plan.recipe.data.sources})
    front = {
        "language": task.languages,
        "license": "other",
        "license_name": ", ".join(licences),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["rhapsode", spec.family],
    }
    sources = "\n".join(f"- {s.name or s.path} (licence: {s.licence})" for s in plan.recipe.data.sources)
    body = BODY.format(
        name=task.name,
        purpose=task.purpose,
        family=spec.family,
        parameters=format_count(spec.parameters),
        step=state.step,
        steps=plan.train.steps,
        tokens=format_count(state.tokens),
        sources=sources,
        path=f"out/runs/{task.name}",
        plan=plan.hash,
    )
    return f"---\n{write_yaml({k: v for k, v in front.items() if v})}---\n\n{body}"
