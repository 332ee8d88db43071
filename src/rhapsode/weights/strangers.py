"""Files that may lie in a model directory and are never opened: pickles, and the parts of an adapter."""

from pathlib import Path

from rhapsode.core.errors import RhapsodeError
from rhapsode.weights.names import ADAPTER

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
PARTS = (ADAPTER, "adapter_model.safetensors", "adapter_model.bin")


def pickles(directory: Path) -> list[str]:
    """Names of files that only `pickle` could read."""
    return sorted(path.name for path in directory.glob("*") if path.suffix in PICKLES)


def refuse_adapter(directory: Path) -> None:
    """Raises RhapsodeError: the directory holds a change to another model."""
    for name in PARTS:
        if (directory / name).exists():
            raise RhapsodeError(
                f"{directory} holds an adapter ({name}), which is no model of its own",
                "name the model that it was trained on",
            )


def refuse_pickle(directory: Path, name: str) -> RhapsodeError:
    """The error for weights that lie in a pickle."""
    return RhapsodeError(
        f"{directory} holds weights in {name}, a pickle: to read one is to run whatever code is in it",
        "take the publisher's .safetensors files; or, where you trust the file, convert it once with transformers: "
        "AutoModelForCausalLM.from_pretrained(DIRECTORY).save_pretrained(ANOTHER, safe_serialization=True)",
    )


def explain_absence(directory: Path) -> RhapsodeError:
    """The error for a directory that holds neither model.safetensors nor an index."""
    if not directory.is_dir():
        return RhapsodeError(f"{directory} does not exist", "name a model directory")
    if found := pickles(directory):
        return refuse_pickle(directory, found[0])
    others = sorted(path.name for path in directory.glob("*.safetensors"))
    there = f"; there is {others[0]}, and no index that names it" if others else ""
    return RhapsodeError(f"{directory} lacks model.safetensors{there}", "the model is not complete")
