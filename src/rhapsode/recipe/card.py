"""The model card of a checkpoint: README.md with the front matter that model hubs read."""

from collections.abc import Iterable, Sequence

from rhapsode.core.units import format_count
from rhapsode.core.yaml import write_yaml
from rhapsode.model.spec import ModelSpec
from rhapsode.recipe.plan import Plan
from rhapsode.recipe.teacher import papers_of
from rhapsode.weights.checkpoint import TrainingState
from rhapsode.weights.extend import ROWS

BODY = """\
# {name}

{purpose}

{origin} This is step {step} of {steps}, after {tokens} tokens.

## Data

{sources}

Documents are cleaned, deduplicated and split before anything is sampled; held-out documents were never trained on.

## Use

{use}

## Evidence

- plan `{plan}`
- `manifest.json` holds the sha256 of every file here and of everything it was made from
- measurements of the finished model are in `report.json` and `report.html` of the run
"""
WRITES = """\
What this model writes is a draft for a person to check. It invents facts, repeats what its training text says, right or
wrong, and may repeat parts of that text word for word.

    rhapsode chat {path}

or `transformers.AutoModelForCausalLM.from_pretrained(...)`."""
HEADED = """\
This model does not write: it {purpose}. What it says is a suggestion; where it matters, a person checks it.

    rhapsode serve {path}

and ask {endpoint}, or `{reader}`."""
SCRATCH = "A {family}-shaped decoder of {parameters} parameters, trained from scratch by Rhapsode."
PIPELINES = {None: "text-generation", True: "text-classification", False: "sentence-similarity"}
"""What hubs call models that write, that have labels, and that give vectors."""
BASED = """\
Trained further by Rhapsode from {base}, a {family} model of {parameters} parameters (manifest `{sha256}`). Its licence,
{licence}, holds for this model too{papers}."""
EXTENDED = (
    " {new:,} tokens are new in its vocabulary, and have rows of their own ({rows_before:,} before, {rows:,} now)."
)

TAUGHT = """\
Its teacher was {teacher}, a {family} model of {parameters} parameters (manifest `{sha256}`): at every learned token it
learned how likely each token is to the teacher. The teacher's licence, {licence}, may bind this model too{papers}."""


def card_text(plan: Plan, state: TrainingState) -> str:
    """Front matter and text; only what is known while training, so that every checkpoint carries it."""
    task = plan.recipe.task
    sources = "\n".join(f"- {s.name or s.path} (licence: {s.licence})" for s in plan.recipe.data.given)
    body = BODY.format(
        name=task.name,
        purpose=task.purpose,
        origin=f"{_origin(plan)}{_taught(plan)}",
        step=state.step,
        steps=plan.train.steps,
        tokens=format_count(state.tokens),
        sources=sources,
        use=use_of(plan.train.spec, path=f"out/runs/{task.name}"),
        plan=plan.hash,
    )
    head = front_matter(
        plan.train.spec, licence=plan.licence, base=plan.base and plan.base.title, languages=task.languages
    )
    return head + body


def use_of(spec: ModelSpec, *, path: str) -> str:
    """What the model at `path` is good for, and how it is asked."""
    if (head := spec.head) is None:
        return WRITES.format(path=path)
    if head.labels:
        endpoint, reader = "`/classify`", "transformers.AutoModelForSequenceClassification.from_pretrained(...)"
    else:
        endpoint, reader = "`/v1/embeddings`", "sentence_transformers.SentenceTransformer(...)"
    return HEADED.format(purpose=head.purpose, path=path, endpoint=endpoint, reader=reader)


def front_matter(spec: ModelSpec, *, licence: str, base: str | list[str] | None, languages: Sequence[str] = ()) -> str:
    """The block of YAML that hubs read, between its two lines."""
    head = spec.head
    known = {
        "language": list(languages),
        **_licence(licence),
        "base_model": base,
        "library_name": "transformers" if head is None or head.labels else "sentence-transformers",
        "pipeline_tag": PIPELINES[None if head is None else bool(head.labels)],
        "tags": ["rhapsode", spec.family],
    }
    return f"---\n{write_yaml({key: value for key, value in known.items() if value})}---\n\n"


def _licence(name: str) -> dict[str, str]:
    """Hubs have lower-case names for common licences; others have a name of their own."""
    is_common = name == name.lower() and name.isprintable() and " " not in name
    return {"license": name} if is_common else {"license": "other", "license_name": name}


def _origin(plan: Plan) -> str:
    base, spec = plan.base, plan.train.spec
    parameters = format_count(spec.parameters)
    if base is None:
        return SCRATCH.format(family=spec.family, parameters=parameters)
    is_extended = plan.recipe.data.tokens.is_extending
    return BASED.format(
        base=base.title,
        family=spec.family,
        parameters=parameters,
        sha256=(plan.before.base if plan.before else base).sha256[:12],
        licence=base.licence,
        papers=_named(path.name for path in base.papers),
    ) + (EXTENDED.format(**base.facts[ROWS]) if is_extended else "")


def _taught(plan: Plan) -> str:
    if (teacher := plan.teacher) is None:
        return ""
    its = {path.read_bytes() for path in teacher.papers}
    told = TAUGHT.format(
        teacher=teacher.title,
        family=teacher.spec.family,
        parameters=format_count(teacher.spec.parameters),
        sha256=teacher.sha256[:12],
        licence=teacher.licence,
        papers=_named(name for name, path in papers_of(plan.base, teacher).items() if path.read_bytes() in its),
    )
    return f"\n\n{told}"


def _named(papers: Iterable[str]) -> str:
    names = ", ".join(f"`{name}`" for name in papers)
    return f": {names}" if names else ""
