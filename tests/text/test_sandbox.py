"""A chat template is a program that came with a model: it writes text, or it is stopped."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox()


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ bos_token }}{{ nowhere }}|", "<s>|"),
        ("{% if true %}\n  x\n  {% endif %}\ny\n", "  x\ny"),
        ("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
        ("{% generation %}a{% endgeneration %}b", "ab"),
        ("{{ {'ä': ['<', 1]}|tojson }}", '{"ä": ["<", 1]}'),
        ("{{ [1]|tojson(indent=1) }}", "[\n 1\n]"),
        ("{% set ns = namespace(x=1) %}{% set ns.x = 2 %}{{ ns.x }}{{ dict(a=1) }}", "2{'a': 1}"),
        ("{{ strftime_now('%Y')|length }}", "4"),
        ("{{ 'x'.__class__ is defined }}{{ messages[0]['role'] }}", "Falseuser"),
        ("{{ '\\ud83d' ~ '\\N{GREEK SMALL LETTER ALPHA}' }}", "\ud83dα"),
        ("{{ 'a b c'|wordwrap(1)|length }}{{ lipsum(n=1)|length > 9 }}{{ [1]|pprint }}", "5True[1]"),
    ],
)
def test_templates_have_what_transformers_gives_them(sandbox: Sandbox, template: str, text: str) -> None:
    assert sandbox.render(template, {"bos_token": "<s>", "messages": [{"role": "user"}]}) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ raise_exception.__globals__ }}",
        "{{ namespace(__class__=1) }}",
        "{% set ns = namespace() %}{% set ns.__x__ = 1 %}{{ ns.__x__ }}",
        "{{ messages.append(1) }}",
        "{{ self._TemplateReference__context }}",
        "{{ (messages|map(attribute='__class__')|list)[0].mro() }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os }}",
    ],
)
def test_nothing_but_the_template_is_reached(sandbox: Sandbox, template: str) -> None:
    """Some of these are errors, some are as if they were not defined."""
    seen, reason = "", "the chat template fails: SecurityError"
    try:
        seen = sandbox.render(template, {"messages": [1]})
    except RhapsodeError as error:
        reason = error.message
    assert seen == ""
    assert reason.startswith("the chat template fails: ")
    assert any(kind in reason for kind in ("SecurityError", "UndefinedError", "TypeError"))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "longer than a second"),
        ("{% for i in range(99999) %}{{ lipsum(n=99) }}{% endfor %}", "characters|longer than a second"),
        ("{{ 'a' * 10**9 }}", "too much memory"),
        ("{{ ('a' * 2 * 10**8)|length }}", "too much memory"),
        ("{{ 'a'.center(10**9)|length }}", "too much memory"),
        ("{{ '%999999999d' % 1 }}", "too much memory"),
        ("{{ range(99999)|list * 1000 }}", "too much memory"),
        (
            "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "too much memory",
        ),
        ("{% for i in range(99999) %}{{ 'a' * 99 }}{% endfor %}", "more than 4194304 characters"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ("{{ " + "(" * 9999 + "1" + ")" * 9999 + " }}", "RecursionError"),
    ],
)
def test_what_takes_too_much_is_stopped(sandbox: Sandbox, template: str, reason: str) -> None:
    with pytest.raises(RhapsodeError, match=reason):
        sandbox.render(template, {})
    assert sandbox.render("{{ 1 }}", {}) == "1"


def test_a_worker_stays_small(sandbox: Sandbox) -> None:
    """64 MiB above what it begins with, whatever a template asks for."""
    for template in ("{{ 'a' * 10**8 }}", "{{ ('a' * 7 * 10**7)|length }}", "{{ range(99999)|list * 99 }}"):
        with pytest.raises(RhapsodeError):
            sandbox.render(template, {})
    assert sandbox._worker is not None
    status = Path(f"/proc/{sandbox._worker.pid}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < (64 + 48) * 1024


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('System role not supported') }}", "refuses this conversation: System role not supported"),
        ("a\n{% if %}", "fails: line 2: Expected an expression"),
        ("{{ x.y.z }}", "fails: UndefinedError: 'x' is undefined"),
        ("{{ 1 / 0 }}", "fails: ZeroDivisionError"),
    ],
)
def test_what_a_template_says_is_quoted(sandbox: Sandbox, template: str, message: str) -> None:
    with pytest.raises(RhapsodeError, match=message) as caught:
        sandbox.render(template, {})
    assert caught.value.hint


def test_no_file_can_be_opened(sandbox: Sandbox) -> None:
    sandbox.render("", {})
    assert sandbox._worker is not None
    limits = Path(f"/proc/{sandbox._worker.pid}/limits").read_text()
    assert next(line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")) == ["0", "0"]


def test_a_conversation_without_end_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(RhapsodeError, match="longer than 16 MiB"):
        sandbox.render("{{ messages }}", {"messages": ["a" * 2**24]})


def test_a_worker_that_is_gone_is_replaced() -> None:
    sandbox = Sandbox()
    assert sandbox.render("{{ 1 }}", {}) == "1"
    assert sandbox._worker is not None
    sandbox._worker.kill()
    sandbox._worker.wait()
    assert sandbox.render("{{ 2 }}", {}) == "2"


def test_a_worker_that_dies_at_its_work_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "worker.py").write_text("import sys\nsys.stdin.readline()\nsys.exit(3)")
    monkeypatch.setattr("rhapsode.text.sandbox._WORKER", tmp_path / "worker.py")
    with pytest.raises(RhapsodeError, match="ended its worker with code 3"):
        Sandbox().render("{{ 1 }}", {})


def test_an_interrupted_rendering_answers_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = Sandbox()

    def interrupt(line: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("json.loads", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sandbox.render("{{ 'old' }}", {})
    assert sandbox.render("{{ 'new' }}", {}) == "new"


def test_a_forked_process_asks_a_worker_of_its_own() -> None:
    sandbox = Sandbox()
    assert sandbox.render("{{ 1 }}", {}) == "1"
    assert sandbox._worker is not None
    parents = sandbox._worker.pid
    ours, theirs = multiprocessing.get_context("fork").Pipe()

    def ask() -> None:
        theirs.send((sandbox.render("{{ 2 }}", {}), sandbox._worker and sandbox._worker.pid))

    child = multiprocessing.get_context("fork").Process(target=ask)
    child.start()
    text, pid = ours.recv()
    child.join()
    assert text == "2"
    assert pid != parents
    assert sandbox.render("{{ 3 }}", {}) == "3"
