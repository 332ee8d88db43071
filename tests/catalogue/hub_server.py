"""A small hub on loopback that speaks Hugging Face's protocol, with its faults on request.

Two hosts: the hub, which answers questions and keeps small files, and the store of large files, which the hub sends
its clients to. A fault is armed for one file and disarms itself unless it says otherwise.
"""

import hashlib
import http.server
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self
from urllib.parse import parse_qs, quote, unquote, urlparse

COMMIT = "5a1d3c0ffee5a1d3c0ffee5a1d3c0ffee5a1d3c0"
SMALL = 4096
"""Larger files are stored apart, as a hub does."""


class Asked(NamedTuple):
    """A request that came: `host` is "hub" or "store"."""

    host: str
    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class Fault:
    """What goes wrong with a file: it breaks off after `bytes`, is answered with `status`, or has other bytes."""

    break_after: int | None = None
    status: int | None = None
    flip: bool = False
    no_ranges: bool = False
    times: int = 1


@dataclass
class Repository:
    """Files of one model at one commit, on every branch."""

    files: dict[str, bytes]
    card: dict[str, object] = field(default_factory=dict)
    needs_token: str | None = None
    extra_names: tuple[str, ...] = ()


class HubServer:
    """Both hosts, in threads."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: dict[str, Fault] = {}
        self.asked: list[Asked] = []
        self.is_down = False
        self._hosts = {name: self._start(name) for name in ("hub", "store")}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for host in self._hosts.values():
            host.shutdown()
            host.server_close()

    @property
    def url(self) -> str:
        return self.address("hub")

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self._hosts[name].server_address[1]}"

    def bytes_asked(self, name: str) -> list[str | None]:
        """The Range header of every GET of a file's bytes, in order."""
        return [
            a.headers.get("range")
            for a in self.asked
            if a.method == "GET" and a.path.endswith(name) and not (a.host == "hub" and self._is_large(name))
        ]

    def _is_large(self, name: str) -> bool:
        return any(len(r.files.get(name, b"")) > SMALL for r in self.repositories.values())

    def _start(self, name: str) -> http.server.ThreadingHTTPServer:
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer()

            def do_HEAD(self) -> None:
                self._answer()

            def _answer(self) -> None:
                headers = {key.lower(): value for key, value in self.headers.items()}
                hub.asked.append(Asked(name, self.command, urlparse(self.path).path, headers))
                hub.answer(self, name)

            def log_message(self, *parts: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def answer(self, to: http.server.BaseHTTPRequestHandler, host: str) -> None:
        url = urlparse(to.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if self.is_down:
            return _send(to, 503, b"down for a while")
        if host == "store":
            return self._send_file(to, "/".join(parts[:2]), parts[2])
        if parts[:2] == ["api", "models"]:
            return self._send_facts(to, "/".join(parts[2:4]), parts[4:], parse_qs(url.query))
        if len(parts) >= 5 and parts[2] == "resolve":
            return self._resolve(to, "/".join(parts[:2]), "/".join(parts[4:]))
        return _send(to, 404, b"not found")

    def _send_facts(
        self, to: http.server.BaseHTTPRequestHandler, repo: str, rest: list[str], query: dict[str, list[str]]
    ) -> None:
        found = self.repositories.get(repo)
        if found is None:
            return _send(to, 401, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        if rest[:1] == ["revision"] and rest[1] not in ("main", COMMIT):
            return _send(to, 404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        if rest[:1] == ["tree"]:
            tree = [
                {"type": "file", "path": s["rfilename"], "size": s["size"], "oid": s["blobId"]}
                | ({"lfs": {"oid": s["lfs"]["sha256"], "size": s["size"], "pointerSize": 134}} if "lfs" in s else {})
                for s in _siblings(found)
            ]
            return _send(to, 200, json.dumps(tree).encode())
        siblings = _siblings(found) if query.get("blobs") else [{"rfilename": name} for name in found.files]
        facts = {
            "_id": "1",
            "id": repo,
            "modelId": repo,
            "sha": COMMIT,
            "private": False,
            "gated": "auto" if found.needs_token else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "cardData": found.card,
            "siblings": [*siblings, *({"rfilename": n, "size": 3, "blobId": "0" * 40} for n in found.extra_names)],
        }
        return _send(to, 200, json.dumps(facts).encode())

    def _resolve(self, to: http.server.BaseHTTPRequestHandler, repo: str, name: str) -> None:
        found = self.repositories.get(repo)
        token = to.headers.get("Authorization", "").removeprefix("Bearer ")
        if found is None:
            return _send(to, 401, b"", {"X-Error-Code": "RepoNotFound"})
        if found.needs_token and token != found.needs_token:
            return _send(to, 401, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        if name not in found.files:
            return _send(to, 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = found.files[name]
        if len(content) <= SMALL:
            return self._send_file(to, repo, name)
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(content)),
            "X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "Location": f"{self.address('store')}/{repo}/{quote(name)}",
        }
        return _send(to, 302, b"", headers)

    def _send_file(self, to: http.server.BaseHTTPRequestHandler, repo: str, name: str) -> None:
        content = self.repositories[repo].files[name]
        fault = self.faults.get(name) if to.command == "GET" else None
        if fault is not None:
            fault.times -= 1
            if fault.times <= 0:
                del self.faults[name]
            if fault.status is not None:
                return _send(to, fault.status, b"trouble")
            if fault.flip:
                content = bytes([content[0] ^ 1]) + content[1:]
        start = 0
        wanted = to.headers.get("Range", "")
        if wanted.startswith("bytes=") and not (fault and fault.no_ranges):
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            if start >= len(content):
                return _send(to, 416, b"")
        body = content[start:]
        headers = {"ETag": f'"{_git_sha1(content)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = None if fault is None else fault.break_after
        return _send(to, 206 if start else 200, body, headers, cut=cut)


def _send(
    to: http.server.BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    cut: int | None = None,
) -> None:
    to.send_response(status)
    to.send_header("Content-Length", str(len(body)))
    for key, value in (headers or {}).items():
        to.send_header(key, value)
    to.end_headers()
    if to.command == "GET":
        to.wfile.write(body if cut is None else body[:cut])
        to.wfile.flush()
    if cut is not None:
        to.close_connection = True


def _siblings(found: Repository) -> list[dict[str, object]]:
    siblings = []
    for name, content in found.files.items():
        entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": _git_sha1(content)}
        if len(content) > SMALL:
            entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        siblings.append(entry)
    return siblings


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
