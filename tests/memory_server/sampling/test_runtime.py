"""What the server's process computes on, how it gives memory back, and what it does not look at again."""

import asyncio
import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import torch

from memory_server.errors import CannotStart
from memory_server.sampling.runtime import Trimmer, device, give_way

COLLECTING = """
import gc, time, weakref
import memory_server.app
from memory_server.sampling.runtime import keep_what_is_loaded

class Made: pass

def seconds():
    began = time.perf_counter()
    gc.collect()
    return time.perf_counter() - began

gc.collect()
before = min(seconds() for _ in range(3))
keep_what_is_loaded()
made = Made()
made.itself, known = made, weakref.ref(made)
del made
after = min(seconds() for _ in range(3))
print(after < before / 5, known())
"""


@pytest.mark.parametrize(("cuda", "others"), [(False, "auto or cpu"), (True, "auto, cpu or cuda")])
def test_a_device_that_is_not_there_is_answered_with_those_that_are(monkeypatch, cuda, others):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    with pytest.raises(CannotStart, match=rf"there is no device 'cuda:99' \(.*\); try --device {others}$"):
        device("cuda:99")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no niceness of their own")
@pytest.mark.parametrize("forbidden", [False, True])
def test_a_thread_that_gives_way_is_nicer_and_no_other_one_is(forbidden, monkeypatch):
    def refuses(*_):
        raise PermissionError(1, "Operation not permitted")

    if forbidden:
        monkeypatch.setattr(os, "setpriority", refuses)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(give_way).result()
        nicer = thread.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result()
    assert nicer == (before if forbidden else 10)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


async def test_all_who_ask_within_a_while_have_one_trim_and_who_asks_later_another():
    trims = []
    trimmer = Trimmer(0.05)
    trimmer._trim = trims.append
    trimmer.ask()
    trimmer.ask()
    assert not trims
    await asyncio.sleep(0.2)
    assert len(trims) == 1
    trimmer.ask()
    await asyncio.sleep(0.2)
    assert len(trims) == 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others have nothing to trim")
async def test_what_was_freed_below_a_block_in_use_goes_back_to_the_system():
    blocks = [b"x" * 100_000 for _ in range(1000)]
    kept = blocks[::100]
    before = resident()
    del blocks
    Trimmer(0.0).ask()
    await asyncio.sleep(0.2)
    assert before - resident() > 50e6
    assert kept == [b"x" * 100_000] * 10


def resident():
    return psutil.Process().memory_info().rss


def test_what_is_loaded_is_left_out_of_collections_and_what_is_made_later_is_not():
    ran = subprocess.run([sys.executable, "-c", COLLECTING], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "None"]
