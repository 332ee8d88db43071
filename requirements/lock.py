"""Renew the locks: install what pyproject.toml asks for in an empty environment, note what came.

test.lock holds only what the tests add to base.lock, peers.lock what `make test-peers` adds to both. Versions are
plain ("2.13.0", not "2.13.0+cpu"), and no index is named, so the same files serve a laptop, a machine with a GPU and a
private mirror.
"""

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

HERE = Path(__file__).parent
TORCH = "torch==2.13.0"
TEST_EXTRAS = ("test", "lint")


def main() -> None:
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        install(python, ["--upgrade", "pip"])  # older ones misread the names of some extras and leave packages out
        install(python, [TORCH])
        install(python, project["dependencies"])
        base = installed(python)
        install(python, [line for extra in TEST_EXTRAS for line in project["optional-dependencies"][extra]])
        test = installed(python)
        install(python, project["optional-dependencies"]["peers"])
        peers = installed(python)
    for before, after in ((base, test), (test, peers)):
        if changed := [pin for pin in before if pin not in after]:
            sys.exit(f"further packages change those that were there: {', '.join(changed)}")
    renew = "# Exactly. Written by requirements/lock.py; renew with `make lock`.\n"
    write("base.lock", f"# Every package that Rhapsode needs.\n{renew}", base)
    added = [pin for pin in test if pin not in base]
    write("test.lock", f"# Every package that tests and checks need besides.\n{renew}-r base.lock\n", added)
    added = [pin for pin in peers if pin not in test]
    write("peers.lock", f"# Every package that tests against other readers need besides.\n{renew}-r test.lock\n", added)


def install(python: Path, requirements: list[str]) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    subprocess.run(command, check=True)


def installed(python: Path) -> list[str]:
    """Pins, torch first."""
    command = [python, "-m", "pip", "list", "--format=freeze", "--exclude=pip", "--exclude=setuptools"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    pins = (line.partition("+")[0] for line in lines)
    return sorted(pins, key=lambda pin: (not pin.startswith("torch=="), pin.lower()))


def write(name: str, head: str, pins: list[str]) -> None:
    (HERE / name).write_text(head + "".join(f"{pin}\n" for pin in pins), encoding="utf-8")


if __name__ == "__main__":
    main()
