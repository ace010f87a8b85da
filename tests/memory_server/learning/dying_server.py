"""A server that has a worker learn for ever, prints its process id, and waits to be killed."""

import asyncio
import sys
from pathlib import Path

import numpy as np
import psutil

from dgm_core.manifest import DataSpec
from dgm_core.memories import new_manifest
from dgm_core.memory import Terms
from memory_server.learning.admission import IngestBudget
from memory_server.learning.buffer import IngestBuffer
from memory_server.learning.executor import LocalProcessExecutor
from memory_server.learning.gate import Gate
from memory_server.learning.messages import Job


async def main(directory: Path, when: str) -> None:
    spec = DataSpec((1, 8, 8), "uint8")
    buffer = IngestBuffer(spec, IngestBudget(1 << 20, 1).reserve())
    buffer.append(bytes(40 * spec.nbytes), np.arange(40, dtype=np.int32) % 2)
    manifest = new_manifest("dgmw", {"width": "4", "noise": "8"}, spec, seed=7)
    job = Job(manifest, "t0", (0, 1), 40, Terms(steps=10_000_000))
    started = asyncio.Event()
    task = asyncio.create_task(LocalProcessExecutor(directory, Gate(1)).learn(job, buffer, lambda _: started.set()))
    if when == "learning":
        await started.wait()
    while not (workers := psutil.Process().children()):
        await asyncio.sleep(0.01)
    print(workers[0].pid, flush=True)
    await task


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
