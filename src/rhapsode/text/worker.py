"""The process that renders chat templates, because a template is a program that came with a model.

Run as a script, apart from everything else: it reads one JSON line and answers with one. Jinja's sandbox keeps a
template from Python's insides; the kernel keeps it from running longer than a second, from taking more memory than a
conversation needs, and, once the imports are done, from opening any file. The environment is that of transformers, so
templates written for it render the same.
"""

import encodings.unicode_escape
import io
import json
import pprint
import resource
import signal
import sys
import textwrap
import unicodedata
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
    text = io.StringIO()
    for piece in _compiled(template).generate(variables):
        if text.tell() + len(piece) > _LONGEST_TEXT:
            raise ValueError(f"it writes more than {_LONGEST_TEXT} characters")
        text.write(piece)
    return text.getvalue()


def answer(request: str) -> str:
    """The reply to one request: `text`, why the template `refused` the conversation, or its `fault`."""
    try:
        return json.dumps({"text": render(**json.loads(request))})
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
        signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS)  # nobody handles the signal: the kernel ends the process
        reply = answer(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        print(reply, flush=True)  # noqa: T201 -- the reply


if __name__ == "__main__":
    main()
