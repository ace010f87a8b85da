"""The Dockerfile, read as text: what must hold for an image that nobody has built here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2
from typer.testing import CliRunner

from memory_server.__main__ import application
from memory_server.settings import Settings
from memory_server.watching.health import SERVICE
from tests.conftest import Checked

Instruction = tuple[str, str]


@pytest.fixture(scope="module")
def instructions(root: Path) -> list[Instruction]:
    """(instruction, arguments), continuation lines joined, comments dropped."""
    lines = [line for line in (root / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def runtime(instructions: list[Instruction]) -> list[Instruction]:
    """The instructions of the stage that is shipped."""
    start = max(index for index, (name, _) in enumerate(instructions) if name == "FROM")
    return instructions[start:]


def arguments_of(instructions: list[Instruction], name: str) -> list[str]:
    """The arguments of every instruction of that name."""
    return [arguments for instruction, arguments in instructions if instruction == name]


def test_the_image_is_built_in_one_stage_and_shipped_from_another(
    instructions: list[Instruction], runtime: list[Instruction]
) -> None:
    assert len(arguments_of(instructions, "FROM")) == 2
    assert arguments_of(runtime, "COPY") == ["--from=builder /opt/venv /opt/venv"]
    assert not any("pip" in arguments for arguments in arguments_of(runtime, "RUN"))


def test_the_server_does_not_run_as_root(runtime: list[Instruction]) -> None:
    names = [name for name, _ in runtime]

    assert arguments_of(runtime, "USER") == ["memory"]
    assert names.index("USER") < names.index("ENTRYPOINT")


def test_cpu_or_cuda_is_a_build_argument(instructions: list[Instruction]) -> None:
    assert {"TORCH_VARIANT=cpu", 'TORCH_INDEX_URL=""'} <= set(arguments_of(instructions, "ARG"))


def test_the_port_the_volume_and_the_entry_point_agree_with_the_command(
    runtime: list[Instruction], pyproject: dict[str, Any]
) -> None:
    command = json.loads(arguments_of(runtime, "CMD")[0])
    entry = json.loads(arguments_of(runtime, "ENTRYPOINT")[0])

    assert command[command.index("--port") + 1] == arguments_of(runtime, "EXPOSE")[0]
    # By the environment: a command of one's own takes the place of this one, and must not lose it.
    environment = dict(pair.split("=") for line in arguments_of(runtime, "ENV") for pair in line.split())
    assert environment["MEMORY_SERVER_DATA_DIR"] == arguments_of(runtime, "VOLUME")[0]
    assert "--data-dir" not in command
    assert entry[0] in pyproject["project"]["scripts"]
    assert entry[1] == "serve"


def test_the_server_knows_every_option_that_it_is_started_with(runtime: list[Instruction]) -> None:
    command = json.loads(arguments_of(runtime, "CMD")[0])
    options = {option.removeprefix("--").replace("-", "_") for option in command if option.startswith("--")}

    assert options <= set(Settings.model_fields)
    assert "insecure_expose" in options  # or it would refuse to listen beyond the container


def test_nothing_is_fetched_but_packages(instructions: list[Instruction]) -> None:
    text = " ".join(f"{name} {arguments}" for name, arguments in instructions)

    assert not arguments_of(instructions, "ADD")
    assert not re.search(r"://|\b(curl|wget|apt|apt-get|git)\b", text)


def test_everything_that_is_copied_exists_and_reaches_the_build(root: Path, instructions: list[Instruction]) -> None:
    admitted = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [a.split()[:-1] for a in arguments_of(instructions, "COPY") if not a.startswith("--from")]
    names = {name.removeprefix("./") for group in copied for name in group}

    assert all((root / name).exists() for name in names)
    assert names == admitted


def test_the_health_check_asks_the_port_that_is_served(runtime: list[Instruction], checked: Checked) -> None:
    check = next(arguments for name, arguments in runtime if name == "HEALTHCHECK")
    program, *options = json.loads(check.split("CMD", 1)[1])
    port = arguments_of(runtime, "EXPOSE")[0]

    assert program == "memory-server" and options[-1] == f"localhost:{port}"
    checked.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    answer = CliRunner().invoke(application(), [*options[:-1], checked.target])
    assert answer.exit_code == 0, answer.output
