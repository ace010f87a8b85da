import ctypes
import os
import subprocess
import sys

import pytest

from memory_server import allocator
from memory_server.allocator import OVERWRITABLE, make_overwritable
from memory_server.learning import executor
from memory_server.settings import KEY_VARIABLE


def test_a_program_begins_again_once_so_that_all_it_frees_can_be_overwritten(monkeypatch):
    begun = []
    monkeypatch.setattr(allocator.os, "execve", lambda *begin: begun.append(begin))
    for name in OVERWRITABLE:
        monkeypatch.delenv(name, raising=False)
    make_overwritable()
    ((program, arguments, environment),) = begun
    assert (program, arguments[1:]) == (sys.executable, sys.orig_argv[1:])
    assert environment == os.environ | OVERWRITABLE
    for name, value in OVERWRITABLE.items():
        monkeypatch.setenv(name, value)
    make_overwritable()
    assert len(begun) == 1


def test_a_worker_inherits_neither_the_operators_key_nor_the_servers_allocator(monkeypatch):
    for name in (KEY_VARIABLE, *OVERWRITABLE, "HOME"):
        monkeypatch.setenv(name, "x")
    assert not {KEY_VARIABLE, *OVERWRITABLE} & set(executor._environment())
    assert executor._environment()["HOME"] == "x"


FREED = """
import ctypes
from memory_server.allocator import switch
c = ctypes.CDLL(None)
c.malloc.restype, c.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
for on in (False, True, False, True):
    switch(on)
    address, guard = c.malloc(2000), c.malloc(2000)
    ctypes.memset(address, 77, 2000)
    c.free(address)
    print(on, ctypes.string_at(address, 2000)[100:1900].count(77))
    c.free(guard)
"""


needs_glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="without glibc nothing overwrites what is freed"
)


@needs_glibc
def test_overwriting_is_switched_while_a_process_runs():
    environment = os.environ | OVERWRITABLE
    ran = subprocess.run([sys.executable, "-c", FREED], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:-1] == ["False 1800", "True 0", "False 1800", "True 0"]


@needs_glibc
@pytest.mark.parametrize(
    ("chosen", "able"),
    [
        ({}, True),
        ({"GLIBC_TUNABLES": "glibc.pthread.rseq=0:glibc.malloc.tcache_count=0"}, True),
        ({"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}, False),
        ({"PYTHONMALLOC": "pymalloc"}, False),
    ],
)
def test_it_is_tried_whether_all_that_is_freed_is_overwritten(chosen, able):
    program = "from memory_server.allocator import all_is_overwritten as able; print(able(), able())"
    environment = os.environ | OVERWRITABLE | chosen
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(able)] * 2


def test_without_glibc_nothing_is_overwritten(monkeypatch):
    monkeypatch.setattr(allocator, "switch", lambda on: None)
    assert not allocator.all_is_overwritten()
