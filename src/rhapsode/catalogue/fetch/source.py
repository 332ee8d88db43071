"""What every way to a model offers, and the room that it needs."""

import errno
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from rhapsode.catalogue.licences import Terms
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.core.units import MiB, format_bytes

SPARE = 64 * MiB

Advance = Callable[[int], None]
"""Told how many bytes are here by now."""


class Source(Protocol):
    """One model at one place. The order of calls is terms, room, fetch, papers; `folder` keeps what has come.

    Attributes:
        name: what the model is called if nobody says otherwise.
        origin: where it comes from, for its manifest; the same for every revision.
    """

    @property
    def name(self) -> str: ...
    @property
    def origin(self) -> str: ...

    def terms(self, folder: Path, /) -> Terms | None:
        """The licence, read before anything large is fetched; None if nothing is known of it."""

    def room(self, folder: Path, /) -> int:
        """Bytes of disk that `fetch` and the model made from it need, beside what lies in `folder` already."""

    def fetch(self, folder: Path, events: Events, /) -> Path:
        """A Hugging Face directory or a .gguf file, checked against its published hash if there is one."""

    def revision(self) -> str:
        """Exactly which bytes: a commit, or the sha256 of the one file."""

    def papers(self) -> Mapping[str, bytes]:
        """Licence, notices and model card to keep beside the weights: file name -> content."""


def check_room(needed: int, *, place: Path) -> None:
    """Refuse before anything is fetched.

    Raises:
        RhapsodeError: the disk of `place` has not that much room.
    """
    free = shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free
    if needed + SPARE > free:
        raise RhapsodeError(
            f"{place} has {format_bytes(free)} free; this model needs {format_bytes(needed + SPARE)}",
            "free some space, or set RHAPSODE_HOME to a larger disk",
        )


def explain(error: OSError, *, place: Path) -> RhapsodeError:
    """The user's view of a disk that does not take what is fetched."""
    if error.errno == errno.ENOSPC:
        return RhapsodeError(
            f"the disk is full: {place}", "free some space, or set RHAPSODE_HOME to a larger disk, and run it again"
        )
    return RhapsodeError(f"{error.filename or place}: {error.strerror or error}", "check the path and its permissions")


def advance(events: Events, *, total: int, note: str = "") -> Advance:
    """A listener of bytes that emits progress, at most every half per cent."""
    last = -1

    def tell(done: int) -> None:
        nonlocal last
        share = done * 200 // max(total, 1)
        if share != last:
            last = share
            events.emit("progress", stage="fetch", done=done, total=total, unit="bytes", note=note)

    return tell
