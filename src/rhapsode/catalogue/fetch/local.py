"""A model that lies on this machine already: a Hugging Face directory or a GGUF file, read where it is."""

import re
from collections.abc import Mapping
from pathlib import Path

from rhapsode.catalogue.entries import Entry
from rhapsode.catalogue.licences import Terms, licence_named
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import file_sha256

LARGEST_PAPER = 4 * 1024 * 1024
PAPERS = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|USE_POLICY)[\w.-]*|README\.md", re.IGNORECASE)
LONGEST_NAME = 200
_CARD_LINE = re.compile(r"^(license|license_name|license_link):[ \t]*['\"]?([^\s'\"]+)", re.MULTILINE)
CONVERTED_BYTES = 4
"""The most that a byte of a GGUF file becomes; four bits become sixteen."""


class Local:
    """A directory or a file at `path`; with `entry` and `commit`, what another cache keeps of a hub's repository."""

    def __init__(self, path: Path, *, origin: str = "", commit: str = "", entry: Entry | None = None) -> None:
        self._path, self._origin, self._commit, self._entry = path, origin, commit, entry
        self._papers = {} if path.is_file() else read_papers(path)

    @property
    def name(self) -> str:
        if self._entry:
            return self._entry.name
        raw = self._origin.rpartition("/")[2] or (
            self._path.stem if self._path.is_file() else self._path.resolve().name
        )
        return re.sub(r"[^a-z0-9._-]+", "-", raw.lower()).strip("-._") or "model"

    @property
    def origin(self) -> str:
        return self._origin or f"local:{self._path.name}"

    def terms(self, _: Path, /) -> Terms | None:
        card = self._card_of_file() if self._path.is_file() else self._card_of_directory()
        link = card.get("license_link", "")
        name = card.get("license_name") if card.get("license") == "other" else card.get("license")
        licence = self._entry.licence if self._entry else licence_named(name, url=link)
        return None if licence is None else Terms(licence, None, link or licence.url or str(self._path))

    def _card_of_directory(self) -> dict[str, str]:
        return dict(_CARD_LINE.findall(_front_matter(self._papers.get("README.md", b""))))

    def _card_of_file(self) -> dict[str, str]:
        """The licence that a GGUF file names among its facts.

        Raises:
            RhapsodeError: the file is damaged.
        """
        from rhapsode.weights.gguf.container import read_gguf

        facts = read_gguf(self._path).metadata
        named = {"license": "", "license_name": ".name", "license_link": ".link"}
        found = {key: facts.get(f"general.license{end}") for key, end in named.items()}
        return {key: value[:LONGEST_NAME] for key, value in found.items() if isinstance(value, str)}

    def room(self, _: Path, /) -> int:
        if self._path.is_file():
            return CONVERTED_BYTES * self._path.stat().st_size
        return sum(path.stat().st_size for path in self._path.iterdir() if path.suffix == ".safetensors")

    def fetch(self, _folder: Path, _events: Events, /) -> Path:
        return self._path

    def revision(self) -> str:
        if self._commit:
            return self._commit
        return f"sha256:{file_sha256(self._path)}" if self._path.is_file() else ""

    def papers(self) -> Mapping[str, bytes]:
        return self._papers


def check_local(path: Path) -> None:
    """Refuse what is no model before anything is made.

    Raises:
        RhapsodeError: it is neither a model directory nor a GGUF file.
    """
    if path.is_file() and path.suffix != ".gguf":
        raise RhapsodeError(
            f"{path} is not a model",
            "name a .gguf file, or a directory with config.json, tokenizer.json and *.safetensors; "
            "pickles (.bin, .pt) are never read, since they can run any program",
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise RhapsodeError(f"{path} holds no config.json", "name a model directory in Hugging Face's layout")


def read_papers(directory: Path) -> dict[str, bytes]:
    """Licence, notices and model card of a directory."""
    return {
        path.name: path.read_bytes()
        for path in sorted(directory.iterdir())
        if PAPERS.fullmatch(path.name) and path.is_file() and path.stat().st_size <= LARGEST_PAPER
    }


def _front_matter(card: bytes) -> str:
    """What stands between the first two lines of dashes."""
    match = re.match(r"---\n(.*?)\n---", card[:65_536].decode(errors="replace"), re.DOTALL)
    return match[1] if match else ""
