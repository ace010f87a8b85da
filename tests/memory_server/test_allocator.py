import os
import sys

from memory_server import allocator
from memory_server.allocator import OVERWRITING, overwrite_what_is_freed
from memory_server.learning import executor
from memory_server.settings import KEY_VARIABLE


def test_a_program_begins_again_once_with_an_allocator_that_overwrites(monkeypatch):
    begun = []
    monkeypatch.setattr(allocator.os, "execve", lambda *begin: begun.append(begin))
    for name in OVERWRITING:
        monkeypatch.delenv(name, raising=False)
    overwrite_what_is_freed()
    ((program, arguments, environment),) = begun
    assert (program, arguments[1:]) == (sys.executable, sys.orig_argv[1:])
    assert environment == os.environ | OVERWRITING
    for name, value in OVERWRITING.items():
        monkeypatch.setenv(name, value)
    overwrite_what_is_freed()
    assert len(begun) == 1


def test_a_worker_inherits_neither_the_operators_key_nor_the_servers_allocator(monkeypatch):
    for name in (KEY_VARIABLE, *OVERWRITING, "HOME"):
        monkeypatch.setenv(name, "x")
    assert not {KEY_VARIABLE, *OVERWRITING} & set(executor._environment())
    assert executor._environment()["HOME"] == "x"
