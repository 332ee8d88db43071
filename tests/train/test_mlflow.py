"""MLflow hears of a run without holding it up: against a small fake, and against MLflow's own server."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from tests.train.conftest import Heard

from rhapsode.core.events import Events
from rhapsode.train.mlflow import MLflow, Server, server_of
from rhapsode.train.trackers import trackers

PLANNED = {
    "hash": "f" * 64,
    "parameters": 1234,
    "decisions": [{"name": "learning rate (Muon, matrices)", "value": "0.035", "because": "so"}],
    "forecast": {},
}


class Fake(ThreadingHTTPServer):
    """The part of MLflow that is asked; `gate` holds every answer back, `code` refuses."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, Any, dict[str, str]]] = []
        self.gate, self.code = threading.Event(), 200
        self.experiments: dict[str, str] = {}
        self.gate.set()

    @property
    def server(self) -> Server:
        return Server(f"http://127.0.0.1:{self.server_port}", "songs", {"Authorization": "Bearer me"})

    def bodies(self, path: str) -> list[Any]:
        return [body for asked, body, _ in self.asked if asked == path]

    def metrics(self) -> list[Any]:
        return [metric for body in self.bodies("runs/log-batch") for metric in body.get("metrics", ())]


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def do_PUT(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: Any) -> None:
        url = urlparse(self.path)
        path = url.path.partition("mlflow/")[2] or url.path
        self.server.asked.append((path, body, dict(self.headers)))
        self.server.gate.wait(20)
        code, found = self.server.code, {}
        name = parse_qs(url.query).get("experiment_name", [""])[0]
        if path == "experiments/get-by-name":
            code = code if name in self.server.experiments else 404
            found = {"experiment": {"experiment_id": self.server.experiments.get(name)}}
        elif path == "experiments/create":
            self.server.experiments[body["name"]] = "7"
            found = {"experiment_id": "7"}
        elif path == "runs/create":
            found = {"run": {"info": {"run_id": "r1", "artifact_uri": "mlflow-artifacts:/7/r1/artifacts"}}}
        data = json.dumps(found).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.gate.set()
        server.shutdown()
        thread.join()


def tell(events: Events, *, steps: int, first: int = 1, state: str = "done") -> None:
    """A run of some steps, with a look in the middle."""
    events.emit("planned", **PLANNED)
    events.emit("begin", step=first - 1, steps=steps, resumed=None)
    for step in range(first, steps + 1):
        events.emit("step", step=step, loss=4.0 / step, learning_rate=0.1, grad_norm=float("inf"), moved=True)
        if step == steps // 2:
            events.emit("validation", step=step, bits_per_byte=2.5, by_source={"prose": 2.0, "code (C)": 3.0})
    events.emit("end", state=state, message="")


def listening(server: Server, run_dir: Path) -> tuple[MLflow, Events, Heard]:
    heard = Heard()
    events = Events(heard, clock=lambda: 12.5)
    run_dir.mkdir(exist_ok=True)
    mlflow = MLflow(server, run_dir=run_dir, events=events, pause=0.01)
    events.subscribe(mlflow)
    return mlflow, events, heard


def warnings(heard: Heard) -> list[str]:
    found: list[str] = heard.of("warning", "message")
    return found


def test_a_run_is_created_with_its_decisions_and_told_in_batches(fake: Fake, tmp_path: Path) -> None:
    mlflow, events, heard = listening(fake.server, tmp_path / "verses")
    (tmp_path / "verses" / "plan.json").write_text("{}")
    tell(events, steps=500)
    (tmp_path / "verses" / "report.html").write_text("<html>")
    mlflow.close()
    [created] = fake.bodies("runs/create")
    assert (created["experiment_id"], created["run_name"]) == ("7", "verses")
    params = {p["key"]: p["value"] for body in fake.bodies("runs/log-batch") for p in body.get("params", ())}
    assert params == {"plan": "f" * 64, "parameters": "1234", "learning rate Muon matrices": "0.035"}
    losses = [(m["step"], m["value"]) for m in fake.metrics() if m["key"] == "step/loss"]
    assert losses == [(step, 4.0 / step) for step in range(1, 501)]
    assert {m["timestamp"] for m in fake.metrics()} == {12500}
    looks = {m["key"]: m["value"] for m in fake.metrics() if m["key"].startswith("validation")}
    assert looks == {
        "validation/bits_per_byte": 2.5,
        "validation/by_source/prose": 2.0,
        "validation/by_source/code C": 3.0,
    }
    assert not [m for m in fake.metrics() if m["key"] == "step/grad_norm"]  # infinite, and JSON has no infinity
    batches = fake.bodies("runs/log-batch")
    assert all(len(body.get("metrics", ())) <= 1000 for body in batches)
    assert len(batches) < 50
    uploaded = [path.rpartition("/")[2] for path, _, _ in fake.asked if "artifacts" in path]
    assert uploaded == ["plan.json", "plan.json", "report.html"]
    assert fake.bodies("runs/update")[-1]["status"] == "FINISHED"
    assert all(headers["Authorization"] == "Bearer me" for _, _, headers in fake.asked)
    assert warnings(heard) == []


def test_a_resumed_run_goes_on_with_its_own(fake: Fake, tmp_path: Path) -> None:
    for first, state in ((1, "stopped"), (5, "done")):
        mlflow, events, _ = listening(fake.server, tmp_path / "verses")
        tell(events, steps=first + 3, first=first, state=state)
        mlflow.close()
    assert len(fake.bodies("runs/create")) == 1
    assert [body["status"] for body in fake.bodies("runs/update")] == ["KILLED", "RUNNING", "FINISHED"]
    assert [m["step"] for m in fake.metrics() if m["key"] == "step/loss"] == list(range(1, 9))


def test_a_server_that_does_not_answer_holds_nothing_up(fake: Fake, tmp_path: Path) -> None:
    fake.gate.clear()
    mlflow, events, heard = listening(fake.server, tmp_path / "verses")
    tell(events, steps=30_000)  # far more values than may wait: telling them returned although no answer came
    assert fake.metrics() == []
    fake.gate.set()
    mlflow.close()
    [message] = warnings(heard)
    assert "values came faster than MLflow" in message
    assert fake.bodies("runs/update")[-1]["status"] == "FINISHED"


@pytest.mark.parametrize("code", [None, 403, 500])
def test_a_dead_or_refusing_server_is_one_warning(code: int | None, fake: Fake, tmp_path: Path) -> None:
    server = Server("http://127.0.0.1:1", "songs", {}) if code is None else fake.server
    fake.experiments["songs"] = "7"
    fake.code = code or 200
    mlflow, events, heard = listening(server, tmp_path / "verses")
    tell(events, steps=50)
    mlflow.close()
    [message] = warnings(heard)
    assert server.uri in message
    assert "training goes on" in message
    assert ("does not answer" in message) == (code is None)
    assert not (tmp_path / "verses" / "mlflow.json").exists()


def test_the_environment_of_mlflows_own_clients_decides(tmp_path: Path) -> None:
    assert server_of({"MLFLOW_TRACKING_URI": "sqlite:///runs.db"}) is None
    named = {"MLFLOW_TRACKING_URI": "http://here:5000/", "MLFLOW_EXPERIMENT_NAME": "x", "MLFLOW_TRACKING_TOKEN": "t"}
    assert server_of(named) == Server("http://here:5000", "x", {"Authorization": "Bearer t"})
    user = {"MLFLOW_TRACKING_URI": "https://here", "MLFLOW_TRACKING_USERNAME": "a", "MLFLOW_TRACKING_PASSWORD": "b"}
    assert server_of(user) == Server("https://here", "rhapsode", {"Authorization": "Basic YTpi"})
    heard = Heard()
    for environment, listeners in (({}, 1), ({"MLFLOW_TRACKING_URI": "file:mlruns"}, 1), (named, 2)):
        with trackers(tmp_path, events=Events(heard), environment=environment) as found:
            assert len(found) == listeners
    assert warnings(heard) == [
        "MLFLOW_TRACKING_URI is file:mlruns: only servers (http://..., https://...) are told of a run"
    ]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's own server over SQLite. It may live in another environment: RHAPSODE_MLFLOW is its program."""
    program = os.environ.get("RHAPSODE_MLFLOW") or shutil.which("mlflow")
    if program is None:
        pytest.skip("no mlflow: install it in an environment of its own and name its program in RHAPSODE_MLFLOW")
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, 9)
            process.wait()


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_mlflows_own_server_has_it_all(real: str, tmp_path: Path) -> None:
    server = Server(real, "songs of the sea", {})
    run_dir = tmp_path / "verses"
    for first, state in ((1, "stopped"), (41, "done")):
        mlflow, events, heard = listening(server, run_dir)
        (run_dir / "plan.json").write_text('{"hash": "f"}')
        tell(events, steps=first + 39, first=first, state=state)
        (run_dir / "report.html").write_text("<html>")
        mlflow.close()
        assert warnings(heard) == []
    run_id = json.loads((run_dir / "mlflow.json").read_text())["run_id"]
    run = server.ask("runs/get", run_id=run_id)["run"]
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["run_name"] == "verses"
    params = {p["key"]: p["value"] for p in run["data"]["params"]}
    assert params["learning rate Muon matrices"] == "0.035"
    history = server.ask("metrics/get-history", run_id=run_id, metric_key="step/loss")["metrics"]
    assert [(m["step"], m["value"]) for m in history] == [(step, 4.0 / step) for step in range(1, 81)]
    by_source = server.ask("metrics/get-history", run_id=run_id, metric_key="validation/by_source/prose")["metrics"]
    assert [(m["step"], m["value"]) for m in by_source] == [(20, 2.0)]
    files = server.ask("artifacts/list", run_id=run_id)["files"]
    assert {file["path"] for file in files} == {"plan.json", "report.html"}
