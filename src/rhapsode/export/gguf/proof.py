"""The proof that llama.cpp reads from a GGUF file the model that was written into it.

Three things are compared. The numbers of every tensor, read back from the file, with those in the directory: they may
differ by what the encoding rounds. The ids of `torture_strings`: they may not differ. The distributions of next tokens:
those of llama.cpp with those of our own decoder, which has the numbers of the file, so that nothing differs but how the
two compute. llama.cpp rounds what it multiplies with encoded matrices to a type of theirs, which is what the bounds
leave room for: they are three to ten times what was measured where nothing is wrong.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rhapsode.conformance.cases import questions
from rhapsode.conformance.readers.llamacpp import LlamaCpp
from rhapsode.conformance.snippets import CODE, PROSE
from rhapsode.core.errors import VerificationMismatch
from rhapsode.core.events import Events
from rhapsode.corpus.progress import Progress
from rhapsode.export.gguf.distributions import Distance, Scores, decoder_scores, distance
from rhapsode.export.gguf.encodings import Encoding
from rhapsode.export.gguf.ids import OUR_FAULT, compare_conversations, compare_ids
from rhapsode.export.gguf.quirks import quirks_of
from rhapsode.export.gguf.read_back import farthest, read_back
from rhapsode.model.decoder import Decoder
from rhapsode.model.spec import ModelSpec
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import read_model, stop_tokens

LONGEST_PROMPT = 64
LONG_TEXT, BEYOND, LONGEST_TEXT = 640, 64, 2304
"""Tokens of the one long text, how many of them lie beyond the longest window, and where that becomes too slow."""
LAST = 4
"""Places of each prompt, counted from its end, whose distributions are compared."""
BOUNDS = {"F32": 1e-5, "F16": 1e-4, "BF16": 2e-3}
BLOCK_BOUND = 2e-2
"""Largest median of all divergences, in nats, by encoding; the second is for those in blocks."""
ONE_PROMPT = 10.0
"""By how much more the median of a single prompt may diverge."""


class Proof(NamedTuple):
    """What was compared.

    Attributes:
        strings: so many have the same ids.
        distance: from our decoder with the numbers of the file to llama.cpp.
        cost: from the model itself to llama.cpp: what the encoding costs.
    """

    strings: int
    distance: Distance
    cost: Distance


def largest_error(encoding: Encoding) -> float:
    """What rounding leaves of a tensor's error, as a part of the tensor; other numbers than its own give 1 or more."""
    if encoding.is_exact:
        return 0.01
    return 0.5 if encoding.bits > 4 else 1.0


def check_tensors(file: Path, *, directory: Path, spec: ModelSpec, encoding: Encoding) -> float:
    """The error of the tensor that lost most.

    Raises:
        VerificationMismatch: it lost more than the encoding takes.
    """
    worst = farthest(file, directory, spec)
    if not worst.error <= largest_error(encoding):
        raise VerificationMismatch(
            f"{worst.name} in the file is not the tensor that it was written from: it is off by {worst.error:.1%} of "
            f"its size, {encoding.name} by {largest_error(encoding):.0%} at most",
            "no file was left; where the numbers are very small, export with --encoding bf16 or f32",
        )
    return worst.error


def prove(
    file: Path, *, directory: Path, spec: ModelSpec, tokenizer: Tokenizer, encoding: Encoding, events: Events
) -> Proof:
    """Load `file` in llama.cpp and compare it with the model in `directory`.

    Raises:
        RhapsodeError: llama.cpp is not installed.
        VerificationMismatch: llama.cpp cannot load the file, or reads another model from it; says what differs.
    """
    prompts = list(_prompts(tokenizer, spec=spec, events=events))
    try:
        with LlamaCpp(file) as reader:  # first, since it fails soonest
            strings = compare_ids(reader, tokenizer, quirks=quirks_of(file, reader), events=events)
            compare_roles(reader, tokenizer, stops=stop_tokens(directory), events=events)
            compare_conversations(reader, tokenizer)
            found = [reader.all_scores(ids, first=max(0, len(ids) - LAST)) for ids in prompts]
    except VerificationMismatch as found_out:
        raise VerificationMismatch(found_out.message, OUR_FAULT) from None
    progress = Progress(events, stage="compare", total=2 * len(prompts), unit="texts")
    distances = check_scores(_scores(read_back(file, spec), prompts, progress), found, encoding=encoding)
    cost = distance(_scores(read_model(directory), prompts, progress), found)
    progress.finish()
    return Proof(strings, distances, cost)


def compare_roles(reader: LlamaCpp, tokenizer: Tokenizer, *, stops: Sequence[int], events: Events) -> None:
    """Whether llama.cpp has the chat template and ends answers where the model does.

    Raises:
        VerificationMismatch: the template is another.
    """
    if reader.template != tokenizer.chat_template:
        raise VerificationMismatch("the chat template in the file is not the model's", OUR_FAULT)
    lost = sorted({*stops, tokenizer.end_of_turn} - reader.stops())
    if lost:
        names = ", ".join(repr(tokenizer.show(token)) for token in lost)
        events.emit("warning", message=f"llama.cpp will not end an answer at {names}: a GGUF file names three at most")


def check_scores(expected: Sequence[Scores], found: Sequence[Scores], *, encoding: Encoding) -> Distance:
    """How far llama.cpp's distributions are from ours.

    Raises:
        VerificationMismatch: too far, all in all or after one of the prompts; says how far.
    """
    bound, whole = BOUNDS.get(encoding.name, BLOCK_BOUND), distance(expected, found)
    each = [distance([ours], [theirs]) for ours, theirs in zip(expected, found, strict=True)]
    for what, apart, allowed in (
        ("all prompts", whole, bound),
        *((f"prompt {number}", apart, ONE_PROMPT * bound) for number, apart in enumerate(each)),
    ):
        if not apart.median <= allowed:
            raise VerificationMismatch(
                f"llama.cpp computes another model from the file: after {what}, its next tokens are "
                f"{apart.median:.2g} nats from ours, {encoding.name} allows {allowed:.2g}; the likeliest token is the "
                f"same in {apart.agreement:.0%} of {apart.places} places",
                OUR_FAULT,
            )
    return whole


def _prompts(tokenizer: Tokenizer, *, spec: ModelSpec, events: Events) -> Iterator[list[int]]:
    """Ids of short texts, and of one that is long: what a window hides is seen only after its end."""
    for asked in questions(tokenizer):
        ids = tokenizer.ids(asked.text) if asked.text else []
        if ids:
            yield ids[: min(LONGEST_PROMPT, spec.context)]
    window = max((layer.window for layer in spec.layers if layer.window), default=0)
    if LONGEST_TEXT - BEYOND < window < spec.context:
        message = f"the window of {window} tokens is not proven: the longest text compared has {LONGEST_TEXT}"
        events.emit("warning", message=message)
    longest = min(max(LONG_TEXT, window + BEYOND), LONGEST_TEXT, spec.context)
    text = "\n".join((*PROSE, *CODE))
    times = -(-longest // len(tokenizer.encode(text)))
    yield tokenizer.ids("\n".join([text] * times))[:longest]


def _scores(model: Decoder, prompts: Sequence[Sequence[int]], progress: Progress) -> list[Scores]:
    scores = []
    for ids in prompts:
        scores.append(decoder_scores(model, ids, last=LAST))
        progress.advance(1)
    return scores
