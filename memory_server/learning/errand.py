"""What a worker is sent for: it reads from its socket what there is to do, has it done, and answers there."""

import os
import socket
import threading
from typing import BinaryIO

from memory_server.learning.frames import Frame, encode, read


def run_errand(descriptor: int) -> None:
    """One piece of work, from the question to the answer."""
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rb") as stream:
        job = read(stream)
        if job is None:
            return
        ending = threading.Event()
        threading.Thread(target=_listen, args=(stream, ending), daemon=True).start()
        # Loading torch takes seconds, in which the server may die: by now this process would notice.
        from memory_server.learning.training import run  # noqa: PLC0415

        run(job, lambda frame: _send(connection, frame), ending)


def _listen(stream: BinaryIO, ending: threading.Event) -> None:
    """Hears when training should be put down; ends the process when the server closes its end, or dies."""
    while read(stream) is not None:  # there is but one thing that it says now
        ending.set()
    os._exit(1)


def _send(connection: socket.socket, frame: Frame) -> None:
    for piece in encode(frame):
        connection.sendall(piece)
