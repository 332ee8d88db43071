"""What sentence-transformers reads beside a model that gives vectors: how tokens become one, and that it has length 1.

Its `modules.json` names the steps: the transformer itself at the top of the directory, `1_Pooling`, `2_Normalize`.
"""

import json
from dataclasses import replace
from pathlib import Path

from rhapsode.core.errors import RhapsodeError
from rhapsode.model.spec import Head, ModelSpec, Pooling
from rhapsode.weights.json_file import read_bytes, read_object, write_object

MODULES = "modules.json"
POOLING = "1_Pooling"
NORMALIZE = "2_Normalize"
LARGEST = 1 << 16
MODES: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "last"}
OTHER_MODES = ("cls_token", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens")
STEPS = (("", "Transformer"), (POOLING, "Pooling"), (NORMALIZE, "Normalize"))


def write_sentence_files(directory: Path, *, spec: ModelSpec, head: Head) -> None:
    """Everything but the model and its tokenizer, into an existing directory."""
    steps = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(STEPS)
    ]
    (directory / MODULES).write_text(json.dumps(steps, indent=2) + "\n", encoding="ascii")
    for path in (POOLING, NORMALIZE):
        (directory / path).mkdir()
    modes = dict.fromkeys((*MODES, *(f"pooling_mode_{name}" for name in OTHER_MODES)), False)
    modes |= {name: head.pooling == pooling for name, pooling in MODES.items()}
    write_object(
        directory / POOLING / "config.json", {"word_embedding_dimension": spec.width, **modes, "include_prompt": True}
    )
    write_object(directory / NORMALIZE / "config.json", {})
    longest = {"max_seq_length": spec.context, "do_lower_case": False}
    write_object(directory / "sentence_bert_config.json", longest)


def with_pooling(spec: ModelSpec, directory: Path) -> ModelSpec:
    """The spec of the config.json in `directory`, with what the files beside it say of its vectors."""
    if spec.head is None or spec.head.labels:
        return spec
    return replace(spec, head=Head(pooling=read_pooling(directory)))


def read_pooling(directory: Path) -> Pooling:
    """How the model in `directory` makes a vector of its tokens; the mean where it does not say.

    Raises:
        RhapsodeError: in a way that is not built, or by steps that are not known.
    """
    _check_steps(directory / MODULES)
    path = directory / POOLING / "config.json"
    if not path.exists():
        return "mean"
    config = read_object(path)
    asked = [name for name, value in config.items() if name.startswith("pooling_mode") and value not in (False, None)]
    if len(asked) != 1 or asked[0] not in MODES:
        raise RhapsodeError(
            f"{path} asks for {', '.join(asked) or 'no pooling at all'}", f"there are {' and '.join(MODES)}, one alone"
        )
    return MODES[asked[0]]


def _check_steps(path: Path) -> None:
    """Raises RhapsodeError: there is more to the model than a decoder, pooling and a length of 1."""
    if not path.exists():
        return
    try:
        steps = json.loads(read_bytes(path, most=LARGEST))
        kinds = [str(step["type"]).rpartition(".")[2] for step in steps]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RhapsodeError(
            f"{path} is damaged: it is no list of steps, each with its type", "get the file again"
        ) from None
    if odd := [kind for kind in kinds if kind not in {kind for _, kind in STEPS}]:
        raise RhapsodeError(
            f"{path} names the step {odd[0][:60]}, which is not built",
            "choose a model of a transformer and pooling alone",
        )
