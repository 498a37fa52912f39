"""Large blocks that were freed are used again without page faults."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from tamrl.model.memory import keep_pages
net = torch.nn.LSTM(40, 128, batch_first=True)
x = torch.randn(64, 150, 40)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        net(x)[0].sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
plain = faults()
assert keep_pages()
for _ in range(4):
    faults()  # holes of the right size come about
print(plain, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have no settings")
def test_freed_memory_is_used_again() -> None:
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    plain, kept = map(int, run.stdout.split())
    assert kept < plain / 10
