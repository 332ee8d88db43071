import subprocess
import sys
from pathlib import Path

from rhapsode.launch.scale.page import page

ROOT = Path(__file__).parents[3]


def test_the_page_in_the_repository_is_what_the_script_writes():
    assert (ROOT / "docs" / "scale.md").read_text(encoding="utf-8") == page()


def test_the_script_writes_it_without_torch():
    script = "import runpy, sys; runpy.run_module('rhapsode.launch.scale'); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == page()
