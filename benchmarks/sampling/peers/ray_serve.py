"""Ray Serve: one replica behind its gRPC proxy, streaming on our wire.

Tuned: streamed, which is Ray's faster way; batches of full size, so that nothing is left to merge; the generator has a
thread of its own; no dashboard, no statistics of use.
"""

import os
import signal
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ray
from expert import READY, Images, arguments, batches
from memory_api.v1 import memory_pb2 as pb
from ray import serve
from ray.serve.config import HTTPOptions, ProxyLocation, gRPCOptions

WIRE = "memory_api.v1.memory_pb2_grpc.add_MemoryServiceServicer_to_server"
CLIENTS = 1000


@serve.deployment(num_replicas=1, max_ongoing_requests=CLIENTS, ray_actor_options={"num_cpus": 1})
class Replica:
    """Streams batches.

    Arguments:
        folder, device: see `Images`.
        rows: of a batch.
    """

    def __init__(self, folder: Path, device: str, rows: int) -> None:
        self._images, self._rows = Images(folder, device), rows
        self._thread = ThreadPoolExecutor(1)

    async def Sample(self, _request: pb.SampleRequest) -> AsyncIterator[pb.SampleResponse]:  # noqa: N802
        """Until the client leaves."""
        async for x in batches(self._images, self._rows, self._thread):
            yield pb.SampleResponse(chunk=pb.SampleChunk(x=x, y=bytes(4 * self._rows)))


def main() -> None:
    """Serves until it is terminated."""
    folder, device, rows = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=max(2, len(os.sched_getaffinity(0))),
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=str(folder.parent / "ray"),  # goes with the run; a longer name would not fit into a socket's address
        runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}},
    )
    port = _free_port()
    serve.start(
        proxy_location=ProxyLocation.HeadOnly,
        http_options=HTTPOptions(port=_free_port()),
        grpc_options=gRPCOptions(port=port, grpc_servicer_functions=[WIRE]),
    )
    serve.run(Replica.bind(folder, device, rows), name="bench")
    print(f"{READY} 127.0.0.1:{port}", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        ray.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
