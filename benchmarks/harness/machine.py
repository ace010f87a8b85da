"""What a benchmark computes on, itself and in the server that it starts."""

import os

import torch

from memory_server.settings import Settings


def device(name: str) -> torch.device:
    """A device by its name; "auto" is CUDA if there is any."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def set_up(device: str, threads: int | None) -> None:
    """Threads and device, here and in the server that this process will start.

    Arguments:
        device: by its name, or "auto".
        threads: of the server's training and of this process; None: all cores but one.
    """
    count = Settings(learners=1).trainers(cuda=False) if threads is None else threads
    torch.set_num_threads(count)
    torch.backends.cudnn.deterministic = True
    os.environ |= {"MEMORY_SERVER_DEVICE": device, "MEMORY_SERVER_TRAINING_THREADS": str(count)}
