import subprocess
import sys

import pytest
import torch

from rhapsode.kernels.allocator import keep_freed_memory
from rhapsode.kernels.peak import measure_peak_flops

WORK = """
import hashlib, sys, torch
from rhapsode.kernels.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert isinstance(keep_freed_memory(), bool)
torch.manual_seed(0)
x = torch.randn(300, 300)
for _ in range(5):
    x = torch.softmax(x @ torch.randn(300, 300), -1)
print(hashlib.sha256(x.numpy().tobytes()).hexdigest())
"""


def run(mode: str) -> str:
    result = subprocess.run([sys.executable, "-c", WORK, mode], capture_output=True, text=True, check=True)
    return result.stdout


def test_keeping_memory_changes_no_bit_of_a_result() -> None:
    assert run("keep") == run("leave")


HEAP = """
import ctypes, torch
from rhapsode.kernels.allocator import keep_freed_memory
assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
large = torch.empty(3 << 30, dtype=torch.uint8)  # memory that nobody touches is none
top = libc.sbrk(0)
del large
assert libc.sbrk(0) == top, "it was handed back"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is set")
def test_no_amount_of_freed_memory_is_handed_back() -> None:
    done = subprocess.run([sys.executable, "-c", HEAP], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_says_whether_it_took_effect() -> None:
    assert keep_freed_memory() is (sys.platform == "linux")


def test_the_peak_is_a_plausible_number_of_operations_a_second() -> None:
    assert 1e8 < measure_peak_flops(torch.float32, device=torch.device("cpu")) < 1e14
