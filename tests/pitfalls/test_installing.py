"""Pitfalls 1 and 2: frameworks that cannot live together, and what works until it is updated.

Nothing that we import wants a torch of its own, and nothing of theirs is changed from outside.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import rhapsode

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = sorted(Path(rhapsode.__file__).parent.rglob("*.py"))
FRAMEWORKS = {"accelerate", "axolotl", "bitsandbytes", "deepspeed", "flash_attn", "lightning", "liger_kernel"}
FRAMEWORKS |= {"llamafactory", "peft", "trl", "unsloth", "vllm", "xformers"}
PINNED = re.compile(r"^torch\b.*(==|<|~=)")


def imported(source: str) -> Iterator[str]:
    """The packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


def patched(source: str) -> list[str]:
    """What a module sets in other packages' modules: torch.nn.Linear.forward = ..., setattr(torch, ...)."""
    tree = ast.parse(source)
    foreign = {
        (name.asname or name.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for name in node.names
    }
    found = []
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr":
            targets = node.args[:1]
        for target in targets:
            root = target
            while isinstance(root, ast.Attribute):
                root = root.value
            is_foreign = isinstance(root, ast.Name) and root.id in foreign
            if is_foreign and (root is not target or isinstance(node, ast.Call)):
                found.append(ast.unparse(target))
    return found


def test_01_no_framework_is_needed_and_none_holds_torch_back() -> None:
    wanted = [*PROJECT["dependencies"], *(line for name in PROJECT["optional-dependencies"].values() for line in name)]
    assert not [line for line in wanted if PINNED.match(line)]
    needed = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in PROJECT["dependencies"]}
    assert needed.isdisjoint(FRAMEWORKS)
    assert not {path.name: name for path in SOURCES for name in imported(path.read_text()) if name in FRAMEWORKS}


@pytest.mark.parametrize("line", ["torch==2.9.1", "torch<=2.12.1", "torch >=2.6,<2.9", "torch~=2.9"])
def test_01_a_pin_would_be_seen(line: str) -> None:
    assert PINNED.match(line)


def test_02_no_module_changes_another_package() -> None:
    assert not {path.name: found for path in SOURCES if (found := patched(path.read_text()))}


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.nn.Linear.forward = lambda *_: None",
        "import transformers.models as m\nsetattr(m, 'llama', None)",
    ],
)
def test_02_a_patch_would_be_seen(source: str) -> None:
    assert patched(source)
