"""The list of verbs, and what becomes of errors.

A verb's module is imported when the verb is used, so `rhapsode --help` stays instant and never imports torch.
"""

import importlib
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from rhapsode import __version__
from rhapsode.core.errors import Interrupted, RecipeError, RhapsodeError

TRACEBACK = "RHAPSODE_TRACEBACK"

VERBS = {
    "new": "A project to begin in: recipe, made-up rows, what to do.",
    "plan": "Everything that would happen, with nothing spent.",
    "prepare": "Sources to a clean corpus and its tokens.",
    "train": "A corpus to a model.",
    "run": "Walk the whole recipe: prepare, train, evaluate.",
    "evaluate": "Measure a model, with error bars.",
    "models": "Open models: what fits this machine, and how to get it.",
    "merge": "Several models of one shape into one.",
    "sample": "Texts that a model writes from nothing, to learn again.",
    "chat": "Talk to a model in the terminal.",
    "serve": "Offer a model over an OpenAI-compatible API.",
    "verify": "Replay a model's evidence, here or in another reader.",
    "export": "Write a model for other software, proven equal.",
    "doctor": "What this machine can do, and what is missing.",
    "schema": "The JSON Schema of a recipe, for editors and forms.",
}

WITH_VERBS = {"models"}
"""Verbs that have verbs of their own; only a module that imports nothing heavy may be one."""

EPILOGUE = f"""\
Exit codes: 0 ok, 1 error, 2 usage or recipe invalid, 3 plan refused, 4 gate not passed, 5 verification mismatch, \
130 interrupted (143 by SIGTERM).

`rhapsode VERB --help` shows a verb's options. Every verb prints a machine-readable result with --json. \
NO_COLOR turns colours off; {TRACEBACK}=1 shows where an unexpected error came from.
"""


def make_app() -> App:
    """The command line as a value, with nothing imported yet."""
    app = App(
        name="rhapsode",
        help="Your own text into your own language model.",
        help_epilogue=EPILOGUE,
        help_format="plaintext",
        version=__version__,
        version_flags=["--version"],
        suppress_keyboard_interrupt=False,
        exit_on_error=False,
        print_error=False,
        result_action="return_none",
    )
    for name, sentence in VERBS.items():
        if name in WITH_VERBS:
            app.command(importlib.import_module(f"rhapsode.cli.verbs.{name}").app)
        else:
            app.command(f"rhapsode.cli.verbs.{name}:{name}", name=name, help=sentence, help_epilogue="")
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Returns:
        The exit code.
    """
    as_json = "--json" in arguments
    try:
        make_app()(list(arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output, `head` for example, has seen enough. Nothing may be flushed to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get(TRACEBACK) and not isinstance(error, RhapsodeError | CycloptsError):
            raise
        return _fail(_for_the_user(error, arguments), as_json=as_json)
    return 0


def _for_the_user(error: BaseException, arguments: Sequence[str]) -> RhapsodeError:
    if isinstance(error, RhapsodeError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted")
    if isinstance(error, CycloptsError):
        verb = arguments[0] + " " if arguments and arguments[0] in VERBS else ""
        error.verbose = False
        return RecipeError(str(error), f"`rhapsode {verb}--help` lists what is possible")
    what = f"{type(error).__name__}: {error}".removesuffix(": ")
    return RhapsodeError(f"unexpected {what}", f"this is a defect of Rhapsode; {TRACEBACK}=1 shows where it happened")


def _fail(error: RhapsodeError, *, as_json: bool) -> int:
    from rhapsode.cli.console import print_error, print_json

    if as_json:
        print_json({"error": {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}})
    print_error(error)
    return error.exit_code
