"""LitServe: one worker, requests for a batch each, raw bytes in the answer.

Tuned: requests are merged into device batches, up to `MERGED` of them; queues of ZeroMQ; bytes instead of JSON.
"""

import socket
import threading
import time
import urllib.request
from typing import Any

import litserve
from expert import READY, Images, arguments
from fastapi import Request, Response

MERGED = 4


class Api(litserve.LitAPI):
    """Answers every request with one batch."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - the benchmark names it
        """Loads the generator in the worker."""
        folder, chosen, self._rows = arguments()
        self._images = Images(folder, chosen)

    def decode_request(self, request: Request) -> int:  # noqa: ARG002 - all ask for the same
        """Rows that are wanted."""
        return self._rows

    def batch(self, inputs: list[int]) -> int:
        """Rows that are wanted together."""
        return sum(inputs)

    def predict(self, rows: int) -> Any:
        """One device batch."""
        return self._images.draw(rows).numpy()

    def unbatch(self, output: Any) -> list[Any]:
        """The rows of each request."""
        return [output[at : at + self._rows] for at in range(0, len(output), self._rows)]

    def encode_response(self, output: Any) -> Response:
        """Raw bytes."""
        return Response(output.tobytes(), media_type="application/octet-stream")


def main() -> None:
    """Serves until it is terminated."""
    port = _free_port()
    threading.Thread(target=_tell, args=(port,), daemon=True).start()
    api = Api(max_batch_size=MERGED, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, timeout=False, fast_queue=True)
    server.run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False)


def _tell(port: int) -> None:
    """Says that it is ready once it is."""
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                if answer.status == 200:
                    print(f"{READY} 127.0.0.1:{port}", flush=True)
                    return
        except OSError:
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
