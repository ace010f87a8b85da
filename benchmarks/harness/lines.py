"""Results as lines of JSON, each with all that it takes to tell where it comes from."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

Line = dict[str, Any]
PLACES = ("--state", "--out", "--features", "--figures")


def origin(device: torch.device) -> Line:
    """When, by which command, on what hardware and with which versions."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *deciding(sys.argv[1:])]),
        "hardware": hardware(device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }


def hardware(device: torch.device) -> str:
    """The processor, how many cores this process may use, and the GPU if one is used."""
    cores = f"{_processor()}, {len(os.sched_getaffinity(0))} cores"
    return f"{cores}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else f"{cores}, no GPU"


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Adds one line to a file, which is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(dict(line), sort_keys=True) + "\n")


def read(path: Path) -> list[Line]:
    """All lines; of those that tell the same thing of the same run, the last."""
    if not path.exists():
        return []
    lines = [json.loads(text) for text in path.read_text().splitlines() if text]
    return list({json.dumps([line["run"], line["what"], *line["key"]]): line for line in lines}.values())


def with_all(path: Path, fields: Mapping[str, Any]) -> Line | None:
    """The first line that has all these fields; None if there is none."""
    return next((line for line in read(path) if fields.items() <= line.items()), None)


def deciding(arguments: list[str]) -> list[str]:
    """A command line without the places where things are kept, which say nothing about a result."""
    pairs = zip(["", *arguments], arguments, strict=False)
    return [word for before, word in pairs if before not in PLACES and word.partition("=")[0] not in PLACES]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.machine()
