"""Held-out prompts: places in documents the model has never seen, and what really followed there.

In Python code, a function's head with all of the document before it; elsewhere, a document's opening words.
"""

import ast
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from rhapsode.corpus.documents import Document, iter_documents
from rhapsode.evaluate.config import SamplesConfig
from rhapsode.evaluate.held_out import rank
from rhapsode.text.tokenizer import Tokenizer

_FEWEST_LINES = 3
"""A shorter function says little about a completion."""


class Probe(NamedTuple):
    """A prompt of a held-out document; `name` is the function's, or empty; `followed` ends where the function ends."""

    kind: Literal["function", "opening"]
    name: str
    prompt: str
    followed: str
    document: str
    source: str


class _Cut(NamedTuple):
    kind: Literal["function", "opening"]
    name: str
    before: str
    after: str


def probes(
    corpus: Path, config: SamplesConfig, *, tokenizer: Tokenizer, context: int, seed: int, split: str = "validation"
) -> list[Probe]:
    """At most `config.count` probes of different documents, drawn by hash.

    A prompt keeps as much of what came before as leaves room for the completion in `context` tokens, in whole lines if
    there are several; `followed` is at most as long as a completion.
    """
    room = max(1, context - config.max_tokens - 1)
    documents = sorted(iter_documents(corpus, split=split), key=lambda d: rank(d.id, seed=seed))
    found: list[Probe] = []
    for document in documents:
        if len(found) == config.count:
            break
        cuts = list(_cuts(document, opening_words=config.opening_words))
        if cuts:
            cut = min(cuts, key=lambda c: rank(f"{document.id}:{len(c.before)}", seed=seed))
            prompt = _last(cut.before, tokens=room, tokenizer=tokenizer)
            followed = _first(cut.after, tokens=config.max_tokens, tokenizer=tokenizer)
            found.append(Probe(cut.kind, cut.name, prompt, followed, document.id, document.source))
    return found


def _cuts(document: Document, *, opening_words: int) -> Iterator[_Cut]:
    if document.source.partition("#")[0].endswith(".py"):
        yield from _functions(document.text)
        return
    words = [match.end() for match in re.finditer(r"\S+", document.text)]
    if len(words) > opening_words:
        end = words[opening_words - 1]
        yield _Cut("opening", "", document.text[:end], document.text[end:])


def _functions(text: str) -> Iterator[_Cut]:
    """Every function of a module or of a class in it, cut after its docstring, or after its signature."""
    # Lines as Python sees them: a form feed does not end one, unlike in str.splitlines.
    lines = re.split(r"(?<=\n)", text.replace("\r\n", "\n").replace("\r", "\n"))
    for node in _definitions(text):
        body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
        last = node.end_lineno or node.lineno
        if node.col_offset not in (0, 4) or not body:
            continue
        first = body[0].lineno
        if isinstance(body[0], ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and body[0].decorator_list:
            first = body[0].decorator_list[0].lineno
        head = first - 1
        if head >= node.lineno and last - head >= _FEWEST_LINES:
            yield _Cut("function", node.name, "".join(lines[:head]), "".join(lines[head:last]))


def _definitions(text: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """No definition where the text is not Python, or not that of this interpreter."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _last(text: str, *, tokens: int, tokenizer: Tokenizer) -> str:
    """The end of `text` that fits, from the beginning of a line where that leaves anything."""
    ids = tokenizer.encode(text)
    if len(ids) <= tokens:
        return text
    end = tokenizer.decode(ids[-tokens:], errors="ignore")
    whole_lines = end.partition("\n")[2]
    return whole_lines if whole_lines.strip() else end


def _first(text: str, *, tokens: int, tokenizer: Tokenizer) -> str:
    return tokenizer.decode(tokenizer.encode(text)[:tokens], errors="ignore")
