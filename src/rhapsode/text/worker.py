"""The process that renders chat templates, because a template is a program that came with a model.

Run as a script, apart from everything else: it reads one JSON line and answers with one. Jinja's sandbox keeps a
template from Python's insides; the kernel keeps it from running longer than a second, from taking more memory than a
conversation needs, and, once the imports are done, from opening any file. The environment is that of transformers, so
templates written for it render the same.
"""

import encodings.unicode_escape
import json
import pprint
import resource
import signal
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.constants
import jinja2.debug
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

# Imported only when needed, and by then no file can be opened any more.
_OPENED = (encodings.unicode_escape, jinja2.constants, jinja2.debug, pprint, textwrap, unicodedata)

_CPU_SECONDS = 1.0
_MEMORY = 64 * 2**20
_MEMORY_PER_BYTE = 8  # a request is read, taken apart and rendered: so many copies of its bytes at most
_LONGEST_TEXT = 4 * 2**20
_LONGEST_MESSAGE = 500


class Refused(Exception):
    """The template said that it does not take this conversation."""


class _Generation(Extension):
    """`{% generation %}` marks answers for trainers that look for it; what stands in it is rendered as it is."""

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        self.tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _PublicNamespace(Namespace):
    """A namespace that stores no name with an underscore, which the sandbox would refuse to read."""

    def __setitem__(self, name: str, value: object) -> None:
        if str(name).startswith("_"):
            raise jinja2.exceptions.SecurityError(f"namespace attribute {name!r} begins with an underscore")
        super().__setitem__(name, value)


def _namespace(*args: Any, **values: Any) -> Namespace:
    made = _PublicNamespace()
    for name, value in dict(*args, **values).items():
        made[name] = value
    return made


class _Dict:
    """What templates do with `dict`, without the type and all that leads on from it."""

    fromkeys = staticmethod(dict.fromkeys)

    def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
        return dict(*args, **values)


def _raise_exception(message: object) -> NoReturn:
    raise Refused(str(message))


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)  # noqa: DTZ005 -- local time, as templates expect


def _environment() -> jinja2.Environment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": _now,
        "namespace": _namespace,
        "dict": _Dict(),
    }
    return environment


@lru_cache(maxsize=4)
def _compiled(template: str) -> jinja2.Template:
    return _environment().from_string(template)


def render(template: str, variables: dict[str, Any]) -> str:
    """What `template` makes of `variables`, 4 MiB of text at most."""
    pieces, size = [], 0
    for piece in _compiled(template).generate(variables):
        size += len(piece)
        if size > _LONGEST_TEXT:
            raise ValueError(f"it writes more than {_LONGEST_TEXT} characters")
        pieces.append(piece)
    return "".join(pieces)


def render_beginnings(
    template: str, variables: dict[str, Any], beginnings: list[tuple[int, bool, str]]
) -> Iterator[str | int | None]:
    """Each beginning's text; how long it is, where the first one's text begins so; None where the template fails."""
    messages, first = variables["messages"], None
    for stop, add_generation_prompt, also in beginnings:
        told = {"messages": messages[:stop] + json.loads(also), "add_generation_prompt": add_generation_prompt}
        try:
            text = render(template, variables | told)
        except (Exception, MemoryError):  # noqa: BLE001 -- asked for alone, it will say what
            yield None
            continue
        is_begun = first is not None and first.startswith(text)
        first = text if first is None else first
        yield len(text) if is_begun else text


def answer(request: str, *, allow: Callable[[], None] = lambda: None) -> str:
    """The reply to one request: `text`, or `texts`; why the template `refused` the conversation, or its `fault`.

    `allow` is called between renderings.
    """
    try:
        asked = json.loads(request)
        if "beginnings" in asked:
            texts = []
            for text in render_beginnings(**asked):
                texts.append(text)
                allow()
            return json.dumps({"texts": texts})
        return json.dumps({"text": render(**asked)})
    except Refused as refusal:
        kind, reason = "refused", str(refusal)
    except MemoryError:
        kind, reason = "fault", "it needs too much memory"
    except jinja2.TemplateSyntaxError as error:
        kind, reason = "fault", f"line {error.lineno}: {error.message}"
    except Exception as error:  # noqa: BLE001 -- a template is a program: it can raise anything
        kind, reason = "fault", f"{type(error).__name__}: {error}"
    return json.dumps({kind: reason[:_LONGEST_MESSAGE]})


def _shut_in() -> None:
    """Give up opening files and starting programs."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _allow_time() -> None:
    """From now on; nobody handles the signal, so the kernel ends the process."""
    signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS)


def _address_space() -> int | None:
    """Bytes of address space in use, where the system says."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[0]) * resource.getpagesize() if status.is_file() else None


def main() -> None:
    """Answer request after request until the parent closes the pipe, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    used = _address_space()
    _shut_in()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    for request in sys.stdin:
        if used is not None:
            granted = used + _MEMORY + _MEMORY_PER_BYTE * len(request)
            resource.setrlimit(resource.RLIMIT_AS, (granted if most < 0 else min(granted, most), most))
        _allow_time()
        reply = answer(request, allow=_allow_time)
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        print(reply, flush=True)  # noqa: T201 -- the reply


if __name__ == "__main__":
    main()
