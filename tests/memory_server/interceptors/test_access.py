"""Which RPC takes which right, and what is shown to whom."""

import re
from pathlib import Path

import memory_api.v1
import pytest
from google.protobuf.message_factory import GetMessageClass
from memory_api.v1 import memory_pb2 as pb

from memory_server.errors import PermissionDenied
from memory_server.interceptors.access import RULES, Access, check, memory_of, shown
from memory_server.security.rights import EVERYTHING, Caller, Grant, Right

SERVICE = pb.DESCRIPTOR.services_by_name["MemoryService"]
PROTO = Path(memory_api.v1.__path__[0]) / "memory.proto"
ROOT = Path(__file__).parents[3]


def caller(*rights, memories=("digits*",)):
    return Caller("someone", Grant(frozenset(rights), memories))


def request(method, name):
    """A request of a method that names a memory."""
    made = GetMessageClass(SERVICE.methods_by_name[method].input_type)()
    part = made.header if hasattr(made, "header") else made
    field = "memory" if hasattr(part, "memory") else "name"
    setattr(part, field, name)
    return made


OF_ONE_MEMORY = sorted({method.name for method in SERVICE.methods} - {"ListMemories"})


def test_every_rpc_has_its_rule():
    assert {method.name for method in SERVICE.methods} <= set(RULES)


@pytest.mark.parametrize("method", OF_ONE_MEMORY)
def test_the_memory_that_a_request_names_is_found(method):
    assert memory_of(request(method, "digits-1")) == "digits-1"


@pytest.mark.parametrize("method", OF_ONE_MEMORY)
def test_a_method_takes_its_rights_on_its_memory_and_no_others(method):
    for right in Right:
        allowed = right in RULES[method].any_of or right is Right.ADMIN
        if allowed:
            check(method, caller(right), request(method, "digits-1"))
        else:
            with pytest.raises(PermissionDenied):
                check(method, caller(right), request(method, "digits-1"))
        for other in ("pets", "", "DIGITS-1"):
            with pytest.raises(PermissionDenied, match="no right"):
                check(method, caller(right), request(method, other))


def test_a_stream_that_says_nothing_has_no_right_to_it():
    with pytest.raises(PermissionDenied):
        check("LearnTask", caller(Right.ADMIN), None)
    check("LearnTask", Caller("anybody", EVERYTHING), None)


def test_lists_hold_what_the_caller_may_know_of():
    memories = pb.ListMemoriesResponse(memories=[pb.Memory(name=name) for name in ("digits-1", "pets", "digits-2")])
    assert [one.name for one in shown(memories, caller(Right.SAMPLE)).memories] == ["digits-1", "digits-2"]


@pytest.mark.parametrize("answer", [lambda task: task, lambda task: pb.ListTasksResponse(tasks=[task])])
@pytest.mark.parametrize(("other", "veiled"), [("pets", True), ("digits-2", False)])
def test_other_memories_are_not_named_in_what_a_task_waits_for(answer, other, veiled):
    task = pb.Task(memory="digits-1", waiting_for=f"queued behind task t0 of memory {other}")
    said = str(shown(answer(task), caller(Right.LEARN)))
    assert ("pets" not in said) if veiled else ("t0 of memory digits-2" in said)


@pytest.mark.parametrize(
    ("peer", "subject", "name"),
    [
        ("ipv4:10.0.0.7:1234", None, "10.0.0.7"),
        ("ipv6:%5B::1%5D:1234", None, "::1"),
        ("ipv6:[fe80::1]:1234", None, "fe80::1"),
        ("unix:/run/memory.sock", None, "unix"),
        ("unix:", None, "unix"),
        ("ipv4:10.0.0.7:1234", b"CN=client-7", "CN=client-7"),
    ],
)
def test_without_tokens_everybody_may_do_everything_under_the_name_of_certificate_or_host(peer, subject, name):
    class Context:
        def peer(self):
            return peer

        def auth_context(self):
            return {"x509_subject": [subject]} if subject else {}

    assert Access(None).caller(Context()) == Caller(name, EVERYTHING)


def test_the_table_in_the_documents_is_the_one_in_force():
    rows = re.findall(r"^\| `(\w+)` \| ([a-z, ]+) \|", (ROOT / "docs/security.md").read_text(), re.M)
    told = {method: frozenset(map(Right, re.split(", ", rights))) for method, rights in rows}
    assert told == {method: rule.any_of | {Right.ADMIN} for method, rule in RULES.items()}
