"""A client that sends half a task and then waits to be killed: `python vanishing_client.py TARGET MEMORY`."""

import sys
import threading
from collections.abc import Iterator

import grpc
from memory_api.v1 import memory_pb2 as pb
from memory_api.v1.memory_pb2_grpc import MemoryServiceStub


def half_a_task(memory: str) -> Iterator[pb.LearnTaskRequest]:
    spec = pb.DataSpec(shape=(1, 8, 8), dtype=pb.UINT8)
    yield pb.LearnTaskRequest(header=pb.LearnTaskHeader(memory=memory, task="half", spec=spec))
    labels = [pb.ClassLabel(integer=0)]
    yield pb.LearnTaskRequest(chunk=pb.LearnTaskChunk(x=bytes(64 * 100), y=bytes(4 * 100), new_classes=labels))
    threading.Event().wait()


if __name__ == "__main__":
    with grpc.insecure_channel(sys.argv[1]) as channel:
        MemoryServiceStub(channel).LearnTask(half_a_task(sys.argv[2]))
