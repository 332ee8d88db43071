"""A model from a hub that speaks Hugging Face's protocol.

`huggingface_hub` finds the endpoint, the token and the commit (HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE count as
everywhere). The commit is pinned before the first byte, and every file is compared with the hash that the repository
publishes. Files that Hugging Face's own cache already holds are taken from there. Only what is data is fetched.
"""

import contextlib
import fnmatch
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rhapsode.catalogue.entries import Entry
from rhapsode.catalogue.fetch.source import Advance, advance, explain
from rhapsode.catalogue.fetch.transfer import Remote, Transfer, check
from rhapsode.catalogue.licences import Licence, Terms, licence_named
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
DATA = ("*.json", "*.jinja", "*.txt", "README.md")
PAPERS = ("LICEN[CS]E*", "COPYING*", "NOTICE*", "USE_POLICY*", "*TERMS*")
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
LARGEST_PAPER = 4 * 1024 * 1024


class Hub:
    """A repository at `revision`, a branch, tag or commit."""

    def __init__(self, repo: str, *, revision: str | None = None, entry: Entry | None = None) -> None:
        self._repo, self._revision, self._entry = repo, revision, entry
        self._papers: dict[str, bytes] = {}

    @property
    def name(self) -> str:
        return self._entry.name if self._entry else self._repo.split("/")[1].lower()

    @property
    def origin(self) -> str:
        return f"hub:{self._repo}"

    def terms(self, folder: Path, /) -> Terms | None:
        place = self._place(folder)
        for remote in (r for r in self._remotes if _is_paper(r.name) and r.size <= LARGEST_PAPER):
            self._papers[remote.name] = self._take(remote, place, advance=lambda _: None).read_bytes()
        licence = self._entry.licence if self._entry else self._licence_of_card()
        if licence is None:
            return None
        texts = sorted(name for name in self._papers if fnmatch.fnmatch(name.upper(), PAPERS[0]))
        if texts:
            return Terms(licence, self._papers[texts[0]], str(place / texts[0]))
        return Terms(licence, None, licence.url or self._page)

    def room(self, folder: Path, /) -> int:
        place = self._place(folder)
        here = sum(path.stat().st_size for path in place.glob("*") if path.is_file())
        return max(sum(remote.size for remote in self._remotes) - here, 0)

    def fetch(self, folder: Path, events: Events, /) -> Path:
        place, total = self._place(folder), sum(remote.size for remote in self._remotes)
        before = 0
        for remote in self._remotes:
            tell = advance(events, total=total, note=remote.name)
            self._take(remote, place, advance=_shifted(tell, before))
            before += remote.size
            tell(before)
            if remote.name == "README.md" and remote.size <= LARGEST_PAPER:
                self._papers[remote.name] = (place / remote.name).read_bytes()
        return place

    def revision(self) -> str:
        return str(self._info.sha)

    def papers(self) -> Mapping[str, bytes]:
        return self._papers

    @cached_property
    def _info(self) -> "ModelInfo":
        """What the repository holds at one commit; the one commit that everything is taken from."""
        from huggingface_hub import HfApi

        with self._explained():
            return HfApi(endpoint=_endpoint()).model_info(self._repo, revision=self._revision, files_metadata=True)

    @cached_property
    def _remotes(self) -> list[Remote]:
        """The files to fetch, small ones first."""
        from huggingface_hub import hf_hub_url

        files = [s for s in self._info.siblings or () if _is_plain(s.rfilename) and s.size is not None]
        weights = choose_weights([s.rfilename for s in files])
        if not weights:
            raise _no_weights(self._repo, [s.rfilename for s in self._info.siblings or ()], self._page)
        remotes = []
        for file in files:
            if file.rfilename in weights or _matches(file.rfilename, DATA) or _is_paper(file.rfilename):
                url = hf_hub_url(self._repo, file.rfilename, revision=self.revision(), endpoint=_endpoint())
                sha256 = file.lfs.sha256 if file.lfs else None
                remotes.append(Remote(file.rfilename, url, int(file.size or 0), sha256, file.blob_id))
        return sorted(remotes, key=lambda remote: remote.size)

    @cached_property
    def _transfer(self) -> Transfer:
        from huggingface_hub import get_session
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        return Transfer(get_session(), build_hf_headers())

    @property
    def _page(self) -> str:
        return f"{_endpoint() or 'https://huggingface.co'}/{self._repo}"

    def _place(self, folder: Path) -> Path:
        """Files of different commits never mix."""
        place = folder / self.revision()
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _take(self, remote: Remote, place: Path, *, advance: Advance) -> Path:
        """From Hugging Face's cache if it is there, else over the network."""
        from huggingface_hub import try_to_load_from_cache

        target = place / remote.name
        try:
            cached = try_to_load_from_cache(self._repo, remote.name, revision=self.revision())
            if isinstance(cached, str) and not target.exists() and Path(cached).stat().st_size == remote.size:
                _link(Path(cached).resolve(), target)
                check(target, remote)
                return target
            with self._explained():
                return self._transfer.fetch(remote, place, advance=advance)
        except OSError as error:
            raise explain(error, place=target) from error

    def _licence_of_card(self) -> Licence | None:
        card: Any = self._info.card_data
        if card is None:
            return None
        name = card.get("license")
        title = card.get("license_name")
        name = title if name == "other" and isinstance(title, str) else name
        link = card.get("license_link")
        url = link if isinstance(link, str) and link.startswith("http") else self._page
        return licence_named(name if isinstance(name, str) else None, url=url)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """What the hub answered, in the user's words."""
        from huggingface_hub import errors

        host = _endpoint() or "https://huggingface.co"
        try:
            yield
        except errors.GatedRepoError:
            raise RhapsodeError(
                f"{self._repo} is given only to those who accepted its terms on {host}",
                f"accept them at {self._page}, then set HF_TOKEN to a token of that account (or run `hf auth login`)",
            ) from None
        except errors.RepositoryNotFoundError:
            raise RhapsodeError(
                f"{host} has no model {self._repo}, or not for this account",
                "look at the spelling; a private or gated model needs HF_TOKEN",
            ) from None
        except errors.RevisionNotFoundError:
            raise RhapsodeError(
                f"{self._repo} has no revision {self._revision}", f"see {self._page}/commits for those it has"
            ) from None
        except errors.HfHubHTTPError as error:
            status = getattr(getattr(error, "response", None), "status_code", "an error")
            raise RhapsodeError(
                f"{host} answered {status} when asked for {self._repo}",
                "try again later: what has come is kept, and the same command goes on where it stopped",
            ) from None
        except errors.HTTPError as error:  # type: ignore[attr-defined]
            raise RhapsodeError(
                f"{host} cannot be reached: {error}",
                "look at the network and at HF_ENDPOINT; a directory or a .gguf file that is here needs neither",
            ) from None


def _shifted(tell: Advance, before: int) -> Advance:
    return lambda done: tell(before + done)


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def cached_snapshot(repo: str, *, revision: str | None = None) -> Path:
    """The repository as Hugging Face's own cache holds it; nothing is asked over the network.

    Raises:
        RhapsodeError: it is not there, or not whole.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=[*DATA, "*.safetensors"])
        )
    except LocalEntryNotFoundError:
        raise RhapsodeError(
            f"{repo} is not whole in Hugging Face's cache, and HF_HUB_OFFLINE forbids the network",
            "unset HF_HUB_OFFLINE, or name a directory or a .gguf file that is here",
        ) from None


def choose_weights(names: Sequence[str]) -> set[str]:
    """The safetensors files of the model itself: one whole file, or its shards and never both."""
    found = {name for name in names if WEIGHTS.fullmatch(name)}
    return {"model.safetensors"} if "model.safetensors" in found else found


def _no_weights(repo: str, names: Sequence[str], page: str) -> RhapsodeError:
    if any(name.endswith(".gguf") for name in names):
        return RhapsodeError(
            f"{repo} holds GGUF files, of which one is a model",
            f"download the one you want from {page}/tree/main and run `rhapsode models pull FILE.gguf`",
        )
    if any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        return RhapsodeError(
            f"{repo} holds its weights only as pickles (.bin, .pt), which can run any program when they are read",
            "choose a repository with safetensors; many publishers offer one on a branch: ORG/REPO@refs/convert/...",
        )
    return RhapsodeError(f"{repo} holds no weights (model.safetensors)", f"see {page}/tree/main")


def _is_plain(name: str) -> bool:
    """A file at the top of the repository with an ordinary name, so it cannot lead elsewhere."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) is not None


def _is_paper(name: str) -> bool:
    return _matches(name.upper(), PAPERS) and not name.endswith((".py", ".safetensors"))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copyfile(source, target)


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
