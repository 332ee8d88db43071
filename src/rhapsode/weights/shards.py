"""The weights of a model directory: `model.safetensors`, or several files and the index that says what lies where.

An index may name files of its own directory and nothing else, and must agree with what they hold.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.weights.header import Entry
from rhapsode.weights.json_file import read_object
from rhapsode.weights.safetensors import TensorFile
from rhapsode.weights.strangers import explain_absence

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.safetensors")
MOST_TENSORS = 100_000


class Weights:
    """Every tensor of a model directory, open for reading. `files` are named as they lie there, in the index's order.

    Raises:
        RhapsodeError: there are none, a file is damaged, or the index does not agree with the files.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = contextlib.ExitStack()
        self.files: dict[str, TensorFile] = {}
        self._homes: dict[str, TensorFile] = {}
        with self._stack:
            index = _index(directory)
            self.is_indexed = index is not None
            for name in dict.fromkeys(index.values()) if index else (WEIGHTS,):
                self._open(name)
            if index:
                self._check(index)
            self._stack = self._stack.pop_all()
        self.tensors: dict[str, Entry] = {name: file.tensors[name] for name, file in self._homes.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def num_bytes(self) -> int:
        return sum(file.identity.size for file in self.files.values())

    def read_into(self, name: str, target: Tensor) -> None:
        """As `TensorFile.read_into`."""
        self._homes[name].read_into(name, target)

    def read_corner(self, name: str, target: Tensor, *, row: int, column: int = 0) -> None:
        """As `TensorFile.read_corner`."""
        self._homes[name].read_corner(name, target, row=row, column=column)

    def blocks(self, name: str) -> Iterator[Tensor]:
        """As `TensorFile.blocks`."""
        return self._homes[name].blocks(name)

    def tensor(self, name: str) -> Tensor:
        """As `TensorFile.tensor`."""
        return self._homes[name].tensor(name)

    def check_in_place(self) -> None:
        """As `TensorFile.check_in_place`, of every file."""
        for file in self.files.values():
            file.check_in_place()

    def _open(self, name: str) -> None:
        file = self.files[name] = self._stack.enter_context(TensorFile(self.directory / name))
        for tensor in file.tensors:
            if tensor in self._homes:
                raise RhapsodeError(
                    f"{self.directory}: both {self._homes[tensor].path.name} and {name} hold {tensor}", _AGAIN
                )
            self._homes[tensor] = file
        if len(self._homes) > MOST_TENSORS:
            raise RhapsodeError(f"{self.directory} holds more tensors than any model needs", "it is not genuine")

    def _check(self, index: Mapping[str, str]) -> None:
        for tensor, name in index.items():
            if tensor not in self.files[name].tensors:
                raise RhapsodeError(f"{self.directory / INDEX} says that {name} holds {tensor}, which it lacks", _AGAIN)
        for tensor, file in self._homes.items():
            if tensor not in index:
                raise RhapsodeError(f"{self.directory / INDEX} does not name {tensor}, which {file.path.name} holds")


_AGAIN = "the directory is not one complete model; get its files again"


def _index(directory: Path) -> dict[str, str] | None:
    """Tensor -> name of its file, or None where a single file holds all."""
    path = directory / INDEX
    if (directory / WEIGHTS).exists():
        return None
    if not path.exists():
        raise explain_absence(directory)
    index = read_object(path).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise RhapsodeError(f"{path} is damaged: it has no weight_map", "get the file again")
    for tensor, name in index.items():
        if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name):
            raise RhapsodeError(
                f"{path}: {tensor[:100]!r} is said to lie in {str(name)[:100]!r}, which is no file of this directory",
                "an index may only name .safetensors files beside it; the model is not genuine",
            )
    return index
