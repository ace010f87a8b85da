"""An environment with the base install only: the client, without torch and without the server's dependencies."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest


class Environment(NamedTuple):
    """A fresh virtual environment, and the wheel that was installed into it."""

    folder: Path
    wheel: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs one of its programs outside of the repository."""
        command = [str(self.folder / "bin" / program), *arguments]
        return subprocess.run(command, cwd=self.folder, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def environment(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Builds the wheel from the sources and installs it, without extras, at the pinned versions."""
    folder = tmp_path_factory.mktemp("base")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(root)]
    subprocess.run([*pip, *build], check=True)
    wheel = next(folder.glob("*.whl"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    target = ["--python", str(folder / "bin" / "python")]
    subprocess.run([*pip, *target, "install", "-c", str(root / "constraints.txt"), str(wheel)], check=True)
    return Environment(folder, wheel)


def test_the_wheel_holds_the_four_packages_with_their_types_and_nothing_else(environment: Environment) -> None:
    names = zipfile.ZipFile(environment.wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}

    assert tops == {"memory_api", "memory_client", "dgm_core", "memory_server"}
    assert {f"{top}/py.typed" for top in tops} <= set(names)
    assert {"memory_api/v1/memory.proto", "memory_api/v1/memory_pb2.pyi"} <= set(names)


IMPORT = """
import json, sys, time
started = time.process_time()
import memory_client
seconds = time.process_time() - started
print(json.dumps({"seconds": seconds, "modules": sorted(sys.modules)}))
"""


def test_the_client_imports_fast_and_without_torch_or_server(environment: Environment) -> None:
    runs = [environment.run("python", "-c", IMPORT) for _ in range(3)]
    assert [run.stderr for run in runs] == ["", "", ""]
    results = [json.loads(run.stdout) for run in runs]
    tops = {name.split(".")[0] for name in results[0]["modules"]}

    # Of the processor, as others may be busy; the fastest of three, as the first run compiles bytecode.
    assert min(result["seconds"] for result in results) < 0.5
    assert not tops & {"torch", "dgm_core", "memory_server", "typer", "rich", "PIL"}


@pytest.mark.parametrize(("program", "extra"), [("memoryctl", "cli"), ("memory-server", "server")])
def test_a_command_without_its_extra_says_in_one_line_what_to_install(
    environment: Environment, program: str, extra: str
) -> None:
    done = environment.run(program, "--help")

    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert f"generative-memory[{extra}]" in done.stderr
