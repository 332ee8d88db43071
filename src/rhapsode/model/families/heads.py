"""Heads in `config.json`, as transformers has them: a class for labels, one for vectors, and what labels are called.

A score is a product of the last token's hidden state alone: what a family does to scores of its vocabulary, such as a
soft cap, transformers does not do to those of labels.
"""

from dataclasses import replace

from rhapsode.model.families.fields import Fields
from rhapsode.model.spec import Head, ModelSpec

UNNAMED = 2
"""Labels of a config that says nothing of them."""


def architecture(stem: str, has_labels: bool) -> str:
    """The class that transformers reads the model with."""
    return f"{stem}ForSequenceClassification" if has_labels else f"{stem}Model"


def read_head(fields: Fields, stem: str) -> Head | None:
    """The head that the config announces; None is a model that writes.

    Raises:
        RhapsodeError: its labels are not numbered from 0, or have no names.
    """
    announced = fields.get("architectures")
    if announced == [architecture(stem, has_labels=False)]:
        return Head()
    return Head(_labels(fields)) if announced == [architecture(stem, has_labels=True)] else None


def put_in_place(spec: ModelSpec, head: Head, *, stem: str) -> ModelSpec:
    """The spec, and the config that says so, with a head instead of the projection to the vocabulary."""
    config = {key: value for key, value in spec.config.items() if key not in ("id2label", "label2id")}
    config["architectures"] = [architecture(stem, has_labels=bool(head.labels))]
    if head.labels:
        config["id2label"] = {str(number): label for number, label in enumerate(head.labels)}
        config["label2id"] = {label: number for number, label in enumerate(head.labels)}
    return replace(spec, head=head, tied=False, logit_scale=1.0, logit_softcap=None, config=config)


def _labels(fields: Fields) -> tuple[str, ...]:
    count = fields.whole("num_labels", UNNAMED)
    named = fields.get("id2label", {str(number): f"LABEL_{number}" for number in range(count)})
    if not isinstance(named, dict) or not named or set(map(str, named)) != set(map(str, range(len(named)))):
        raise fields.wrong("id2label", "a name for each label, numbered from 0")
    labels = tuple(named[number] for number in sorted(named, key=int))
    if not all(isinstance(label, str) for label in labels) or len(set(labels)) < len(labels):
        raise fields.wrong("id2label", "names that differ")
    return labels
