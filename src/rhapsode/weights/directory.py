"""Model directories in Hugging Face's layout: safetensors, config.json, generation_config.json, tokenizer files.

What the decoder stacks is split on the way out and stacked on the way in, one tensor at a time: beside the model itself
there is never more than one in memory. Nothing is unpickled and nothing is run.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.parameters import disk_shapes
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.foreign import check_values, copy_licence, take_files, tell_what_stays
from rhapsode.weights.header import Slot
from rhapsode.weights.json_file import read_object, write_object
from rhapsode.weights.layout import check_head, match, pieces
from rhapsode.weights.proof import proven
from rhapsode.weights.sentence_files import with_pooling, write_sentence_files
from rhapsode.weights.shard_writer import MAX_SHARD_BYTES, shard_writer
from rhapsode.weights.shards import Weights
from rhapsode.weights.strangers import refuse_adapter
from rhapsode.weights.tokenizer_files import check_vocabulary, copy_tokenizer

LARGEST_CONFIG = 1 << 20


def write_model(
    directory: Path,
    *,
    spec: ModelSpec,
    weights: Iterable[tuple[str, Tensor]],
    tokenizer_dir: Path,
    stops: Sequence[int],
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a model into an existing directory; the caller's manifest completes it.

    Args:
        weights: the decoder's own names and tensors, all of one type and in any order; a tied head is not among them.
        stops: tokens that end a generation, beside those that config.json names.

    Raises:
        OSError: what the system said, for example that the disk is full.
    """
    dtype = write_weights(directory, spec=spec, weights=weights, max_shard_bytes=max_shard_bytes)
    describe_model(directory, spec=spec, dtype=dtype, tokenizer_dir=tokenizer_dir, stops=stops)


def write_weights(
    directory: Path,
    *,
    spec: ModelSpec,
    weights: Iterable[tuple[str, Tensor]],
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> torch.dtype:
    """The tensors of `write_model` alone; gives their type."""
    dtype, out = torch.float32, None
    with contextlib.ExitStack() as stack:
        for name, value in weights:
            if out is None:
                dtype = value.dtype
                slots = [Slot(disk_name, dtype, shape) for disk_name, shape in disk_shapes(spec).items()]
                out = stack.enter_context(shard_writer(directory, slots, max_shard_bytes=max_shard_bytes))
            for disk_name, piece in pieces(name, value.detach(), spec):
                out.write(disk_name, piece)
            del value, piece  # before the next one is made
    assert out is not None, "a model has weights"
    return dtype


def describe_model(
    directory: Path, *, spec: ModelSpec, dtype: torch.dtype, tokenizer_dir: Path, stops: Sequence[int]
) -> None:
    """Everything of `write_model` but the tensors, which are of type `dtype`."""
    spelled = str(dtype).removeprefix("torch.")
    # older readers know the second key alone
    write_object(directory / "config.json", {**spec.config, "dtype": spelled, "torch_dtype": spelled})
    if spec.head is None:
        _write_generation(directory, spec.config, stops=sorted({*spec.eos, *stops}))
    elif not spec.head.labels:
        write_sentence_files(directory, spec=spec, head=spec.head)
    copy_tokenizer(tokenizer_dir, directory, events=Events())


def read_spec(directory: Path) -> ModelSpec:
    """The architecture of a model directory; no weights are read.

    Raises:
        RhapsodeError: there is no config.json, or it describes what no decoder here computes.
    """
    config = read_object(directory / "config.json", most=LARGEST_CONFIG)
    try:
        return with_pooling(spec_from_config(config), directory)
    except RhapsodeError as error:
        raise RhapsodeError(f"{directory}: {error.message}", error.hint) from None


def stop_tokens(directory: Path) -> tuple[int, ...]:
    """The ids that end a generation: those of generation_config.json, or where it names none, of config.json."""
    for name in ("generation_config.json", "config.json"):
        path = directory / name
        ends = read_object(path, most=LARGEST_CONFIG).get("eos_token_id") if path.exists() else None
        if ends is None:
            continue
        found = ends if isinstance(ends, list) else [ends]
        if not all(type(token) is int and token >= 0 for token in found):
            raise RhapsodeError(f"{path}: eos_token_id is {str(ends)[:60]}, not token ids", "correct it")
        return tuple(found)
    return ()


def load_model(directory: Path, *, dtype: torch.dtype = torch.float32) -> Decoder:
    """The decoder of a complete model directory, every byte checked against its manifest.

    The files are hashed while they are read; what was read is given only once both have agreed.

    Raises:
        RhapsodeError: the directory is incomplete, of an unknown family, or its tensors do not fit its config.
        VerificationMismatch: a file has changed since it was written.
    """
    with proven(directory) as weights:
        return _model_of(weights, dtype=dtype)


def read_model(directory: Path, *, dtype: torch.dtype = torch.float32) -> Decoder:
    """The decoder of a directory that need not be complete: for those who are still making it.

    Raises:
        RhapsodeError: it is of an unknown family, or its tensors do not fit its config.
    """
    with Weights(directory) as weights:
        return _model_of(weights, dtype=dtype)


def read_weights(directory: Path, into: Mapping[str, Tensor], *, spec: ModelSpec) -> None:
    """Fill tensors that carry the decoder's names; nothing is missing, nothing left over."""
    with Weights(directory) as weights:
        _fill(weights, into, spec=spec)


def import_directory(source: Path, into: Path, *, events: Events, allow_not_finite: bool = False) -> ModelSpec:
    """Take a model that somebody else made, examined whole before any of it is taken.

    Weights are linked where the file system and their owner allow it, else copied: the manifest that the caller writes
    tells if somebody changes them later. Warnings tell what is left behind.

    Args:
        into: an existing directory.
        allow_not_finite: take weights that are infinite or no number, with a warning.

    Raises:
        RhapsodeError: the config is not understood, a tensor is missing, of another shape, left over or not finite,
            the vocabulary does not fit, or the weights lie in pickles.
        OSError: what the system said, for example that the disk is full.
    """
    refuse_adapter(source)
    with Weights(source) as weights:
        spec = read_spec(source)
        layout = match(weights.tensors, spec, where=source)
        stops = stop_tokens(source)
        check_values(weights, layout, spec=spec, events=events, allow_not_finite=allow_not_finite)
        take_files(weights, into, events=events)
    write_object(into / "config.json", spec.config)
    if spec.head is None:
        _take_generation(source, into, spec.config, stops=stops)
    elif not spec.head.labels:
        write_sentence_files(into, spec=spec, head=spec.head)
    copy_tokenizer(source, into, events=events)
    check_vocabulary(into, spec=spec)
    copy_licence(source, into)
    tell_what_stays(source, into, events=events)
    return spec


def _model_of(weights: Weights, *, dtype: torch.dtype) -> Decoder:
    spec = read_spec(weights.directory)
    match(weights.tensors, spec, where=weights.directory)  # before memory is taken for what config.json promises
    with torch.device("meta"):
        model = Decoder(spec)
    memory = {name: torch.empty(value.shape, dtype=dtype) for name, value in model.named_parameters()}
    model.load_state_dict(memory, strict=False, assign=True)
    if spec.tied:
        model.head.weight = model.embedding.weight
    _fill(weights, dict(model.named_parameters()), spec=spec)
    return model.eval()


@torch.no_grad()
def _fill(weights: Weights, into: Mapping[str, Tensor], *, spec: ModelSpec) -> None:
    """Read every tensor into its place, in the order of the files: a disk is fastest from front to back."""
    layout = match(weights.tensors, spec, where=weights.directory)
    targets = {
        layout.names[disk_name]: piece for name, value in into.items() for disk_name, piece in pieces(name, value, spec)
    }
    assert len(targets) == len(layout.names), "every parameter is given"
    for name in weights.tensors:
        if name in targets:
            weights.read_into(name, targets[name])
    if layout.head is not None:
        check_head(weights.blocks(layout.head), into["embedding.weight"], name=layout.head, where=weights.directory)


def _take_generation(source: Path, into: Path, config: Mapping[str, object], *, stops: Sequence[int]) -> None:
    path = source / "generation_config.json"
    if path.exists():
        write_object(into / path.name, read_object(path, most=LARGEST_CONFIG))
    else:
        _write_generation(into, config, stops=stops)


def _write_generation(directory: Path, config: Mapping[str, object], *, stops: Sequence[int]) -> None:
    known = {key: config[key] for key in ("bos_token_id", "pad_token_id") if config.get(key) is not None}
    ends = {"eos_token_id": list(stops)} if stops else {}
    write_object(directory / "generation_config.json", known | ends)
