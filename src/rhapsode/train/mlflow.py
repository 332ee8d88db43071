"""A listener that tells an MLflow server of the run, over its REST API and without its package.

Training never waits for it: values go into a queue of bounded length, and a thread sends them, many at a time and at
most two requests a second. A server that is slow or gone costs values, not steps; it is said once.

The variables are those of MLflow's own clients: MLFLOW_TRACKING_URI turns it on, MLFLOW_EXPERIMENT_NAME names the
experiment, MLFLOW_TRACKING_TOKEN or MLFLOW_TRACKING_USERNAME and _PASSWORD give access.
"""

import base64
import http.client
import json
import queue
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode import __version__
from rhapsode.core.events import Event, Events
from rhapsode.train.scalars import scalars

TRACKING_URI = "MLFLOW_TRACKING_URI"
EXPERIMENT = "rhapsode"
KEPT = "mlflow.json"

WAITING = 20_000
"""Values that wait at most."""
A_BATCH, LONGEST_VALUE = 1000, 500
"""The API's own limits of one request."""
PAUSE = 0.5
TIMEOUT = 10.0
PATIENCE = 10.0
"""Seconds that the end of a run waits for what is still to be sent."""
STATES = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
ARTEFACTS = ("plan.json", "report.html")


class Server(NamedTuple):
    """Where it is, and what gives access."""

    uri: str
    experiment: str
    headers: Mapping[str, str]

    def ask(self, path: str, body: Mapping[str, Any] | None = None, **query: str) -> dict[str, Any]:
        """POST with a body, GET without. Raises OSError, of which HTTPError is one, for any failure."""
        data = None if body is None else json.dumps(body).encode()
        where = f"{self.uri}/api/2.0/mlflow/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        answer: dict[str, Any] = json.loads(self._send(where, data, method="GET" if data is None else "POST") or b"{}")
        return answer

    def put(self, path: str, data: bytes) -> None:
        """Store an artefact below the server's own artefact root."""
        self._send(f"{self.uri}/api/2.0/mlflow-artifacts/artifacts/{urllib.parse.quote(path)}", data, method="PUT")

    def _send(self, where: str, data: bytes | None, *, method: str) -> bytes:
        headers = {"Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(where, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            found: bytes = answer.read()
            return found


def server_of(environment: Mapping[str, str]) -> Server | None:
    """The server that the environment names; None if it names a file or a database."""
    uri = environment[TRACKING_URI].rstrip("/")
    if not uri.startswith(("http://", "https://")):
        return None
    headers: dict[str, str] = {}
    if token := environment.get("MLFLOW_TRACKING_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    elif user := environment.get("MLFLOW_TRACKING_USERNAME"):
        both = f"{user}:{environment.get('MLFLOW_TRACKING_PASSWORD', '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(both.encode()).decode()}"
    return Server(uri, environment.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT), headers)


class MLflow:
    """Hears every event; a thread of its own talks to the server."""

    def __init__(self, server: Server, *, run_dir: Path, events: Events, pause: float = PAUSE) -> None:
        self._server, self._dir, self._events, self._pause = server, run_dir, events, pause
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue(WAITING)
        self._params: dict[str, str] = {}
        self._state, self._run = "failed", ""
        self._artefacts = ""
        self._lost, self._problem, self._is_said = 0, "", False
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def __call__(self, event: Event) -> None:
        self._say()
        if event.kind == "planned":
            self._params = _params(event.fields)
        elif event.kind == "begin":
            self._thread.start()
        elif event.kind == "end":
            self._state = event.fields["state"]
        for name, value in scalars(event).items():
            stamp = {"timestamp": int(event.time * 1000), "step": event.fields["step"]}
            try:
                self._queue.put_nowait({"key": _key(name), "value": value, **stamp})
            except queue.Full:
                self._lost += 1

    def close(self) -> None:
        """Send what waits, for a while, and say if something never arrived."""
        self._deadline = time.monotonic() + PATIENCE
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE + 1)
            self._lost += self._queue.qsize()
            if self._lost and not self._problem:
                self._problem = f"{self._lost:,} values came faster than MLflow at {self._server.uri} took them"
        self._say()

    def _say(self) -> None:
        """In the thread of the events: the one that sends may not speak at the same time."""
        if self._problem and not self._is_said:
            self._is_said = True
            self._events.emit("warning", message=f"{self._problem}; training goes on, events.jsonl has everything")

    def _work(self) -> None:
        if not self._try(self._begin):
            return
        while not (self._closing.is_set() and self._queue.empty()):
            batch = self._batch()
            if batch and not self._try(lambda: self._log(metrics=batch)):  # noqa: B023 - called before the next one
                self._lost += len(batch)
            self._closing.wait(self._pause)
        self._try(self._end)

    def _batch(self) -> list[dict[str, Any]]:
        """What waits. JSON knows no infinity: a loss that is none is left out."""
        batch: list[dict[str, Any]] = []
        while len(batch) < A_BATCH and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return [metric for metric in batch if abs(metric["value"]) < float("inf")]

    def _try(self, action: Callable[[], None]) -> bool:
        """Until it succeeds, is refused for good, or there is no more time; with growing pauses."""
        pause = 1.0
        while True:
            try:
                action()
            except urllib.error.HTTPError as error:
                self._note(f"answers {error.code}: {error.read(300).decode(errors='replace')}")
                if error.code < 500:
                    return False
            except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
                # no answer, or none that an MLflow server gives
                self._note(f"does not answer ({error})")
            else:
                return True
            if time.monotonic() + pause > self._deadline or (self._closing.is_set() and self._problem):
                return False
            self._closing.wait(pause)
            pause = min(60.0, 2 * pause)

    def _note(self, what: str) -> None:
        self._problem = self._problem or f"MLflow at {self._server.uri} {what}"

    def _begin(self) -> None:
        """Create the run, or go on with the one of an earlier part of this training."""
        kept = self._kept()
        if kept is not None:
            self._run, self._artefacts = kept["run_id"], kept["artefacts"]
            self._server.ask("runs/update", {"run_id": self._run, "status": "RUNNING"})
            return
        tags = {"mlflow.source.name": f"rhapsode {__version__}", "rhapsode.run": str(self._dir.absolute())}
        info = self._server.ask(
            "runs/create",
            {
                "experiment_id": self._experiment(),
                "run_name": self._dir.name,
                "start_time": int(time.time() * 1000),
                "tags": [{"key": key, "value": value} for key, value in tags.items()],
            },
        )["run"]["info"]
        self._run, self._artefacts = info["run_id"], info.get("artifact_uri", "")
        kept = {"uri": self._server.uri, "run_id": self._run, "artefacts": self._artefacts}
        (self._dir / KEPT).write_text(json.dumps(kept) + "\n", encoding="utf-8")
        self._log(params=[{"key": key, "value": value} for key, value in self._params.items()])
        self._upload("plan.json")

    def _kept(self) -> dict[str, str] | None:
        """The run of an earlier part of this training, if this server still has it."""
        try:
            kept: dict[str, str] = json.loads((self._dir / KEPT).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        if kept.get("uri") != self._server.uri:
            return None
        try:
            self._server.ask("runs/get", run_id=kept["run_id"])
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise
        return kept

    def _experiment(self) -> str:
        name = self._server.experiment
        try:
            found = self._server.ask("experiments/get-by-name", experiment_name=name)["experiment"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            found = self._server.ask("experiments/create", {"name": name})
        return str(found["experiment_id"])

    def _log(self, **what: list[dict[str, Any]]) -> None:
        self._server.ask("runs/log-batch", {"run_id": self._run, **what})

    def _end(self) -> None:
        for name in ARTEFACTS:
            self._upload(name)
        body = {"run_id": self._run, "status": STATES[self._state], "end_time": int(time.time() * 1000)}
        self._server.ask("runs/update", body)

    def _upload(self, name: str) -> None:
        """Through the server, if it keeps artefacts itself."""
        scheme, _, root = self._artefacts.partition(":/")
        if scheme == "mlflow-artifacts" and (self._dir / name).exists():
            self._server.put(f"{root.strip('/')}/{name}", (self._dir / name).read_bytes())


def _params(planned: Mapping[str, Any]) -> dict[str, str]:
    """The plan's decisions; the server takes 100 of them, and only some characters in a name."""
    found = {"plan": planned["hash"], "parameters": planned["parameters"]}
    found |= {decision["name"]: decision["value"] for decision in planned["decisions"]}
    return {_key(name): str(value)[:LONGEST_VALUE] for name, value in list(found.items())[:100]}


def _key(name: str) -> str:
    return re.sub(r"[^\w\-. /]", "", name)[:250]
