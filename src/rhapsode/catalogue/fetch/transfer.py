"""One file over HTTP into a folder: goes on where it stopped, tries again, and believes only the published hash.

huggingface_hub's own downloads begin again after an interruption; its session, tokens and endpoints are used as they
are, and the bytes are taken here.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode.catalogue.fetch.source import Advance
from rhapsode.core.errors import RhapsodeError, VerificationMismatch

CHUNK = 1 << 20
TRIES = 4
PAUSES = (0.5, 1.0, 2.0)
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


class Remote(NamedTuple):
    """A file of a repository: `sha256` where it is stored as a large file, else `git_sha1` of its git blob."""

    name: str
    url: str
    size: int
    sha256: str | None
    git_sha1: str | None


class Transfer:
    """Files from one host. `sleep` waits between tries."""

    def __init__(self, client: Any, headers: dict[str, str], *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client, self._headers, self._sleep = client, headers, sleep

    def fetch(self, remote: Remote, into: Path, *, advance: Advance) -> Path:
        """The complete and checked file below `into`.

        Raises:
            RhapsodeError: the host does not give it; what came is kept for the next time.
            VerificationMismatch: its bytes are not what the repository says; they are removed.
        """
        path = into / remote.name
        if path.is_file() and path.stat().st_size == remote.size:
            return path
        partial = path.with_name(path.name + ".partial")
        for number in range(TRIES):
            if self._try(remote, partial, advance=advance):
                break
            if number < TRIES - 1:
                self._sleep(PAUSES[number])
        else:
            here = partial.stat().st_size if partial.exists() else 0
            raise RhapsodeError(
                f"{remote.name} could not be fetched whole: {here:,} of {remote.size:,} bytes came",
                "look at the network and run the same command again: it goes on where it stopped",
            )
        check(partial, remote)
        return partial.replace(path)

    def _try(self, remote: Remote, partial: Path, *, advance: Advance) -> bool:
        """Ask for what is missing; True when all is here. Whoever answers 200 sends it all, and 416 has no more."""
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
        from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

        have = partial.stat().st_size if partial.exists() else 0
        if have > remote.size:
            partial.unlink()
            have = 0
        if have == remote.size and partial.exists():
            return True
        headers = {**self._headers, "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            with self._client.stream("GET", remote.url, headers=headers, follow_redirects=True) as response:
                if response.status_code == 416:
                    partial.unlink(missing_ok=True)
                    return False
                if response.status_code in TRY_AGAIN:
                    return False
                hf_raise_for_status(response)
                have = have if response.status_code == 206 else 0
                with partial.open("r+b" if have else "wb") as file:
                    file.seek(have)
                    for chunk in response.iter_bytes():  # as it comes: what waits for more is lost if the line breaks
                        have += file.write(chunk)
                        if have > remote.size:
                            break
                        advance(have)
        except HTTPError as error:
            if getattr(error, "response", None) is not None:  # an answer, not the network
                raise
            return False
        return have == remote.size


def check(path: Path, remote: Remote) -> None:
    """Compare bytes with the repository's hash.

    Raises:
        VerificationMismatch: they differ, and `path` is removed.
    """
    with path.open("rb") as file:
        if remote.sha256:
            kind, expected, found = "sha256", remote.sha256, hashlib.file_digest(file, "sha256").hexdigest()
        elif remote.git_sha1:
            blob = hashlib.sha1(f"blob {remote.size}\0".encode(), usedforsecurity=False)
            while chunk := file.read(CHUNK):
                blob.update(chunk)
            kind, expected, found = "git hash", remote.git_sha1, blob.hexdigest()
        else:
            return
    if found != expected:
        path.unlink()
        raise VerificationMismatch(
            f"{remote.name} is not what the repository says: its {kind} is {found[:16]}..., not {expected[:16]}...",
            "it was removed; run the same command again, and if it happens again do not trust this host",
        )
