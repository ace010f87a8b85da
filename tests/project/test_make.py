"""One command for a person, the same for the machine."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Make = Callable[..., subprocess.CompletedProcess[str]]

TARGETS = [
    "help",
    "setup",
    "proto",
    "format",
    "lint",
    "test",
    "test-slow",
    "test-gpu",
    "check",
    "demo",
    "serve",
    "clean",
]
TARGETS += ["bench-sampling", "bench-peers-setup", "bench-kinds", "bench-dgdmn", "audit"]


def test_help_explains_every_target(make: Make) -> None:
    explained = dict(line.removeprefix("make ").split(maxsplit=1) for line in make("help").stdout.splitlines())

    assert sorted(explained) == sorted(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_can_be_planned(make: Make, target: str) -> None:
    planned = make("--dry-run", target)

    assert planned.returncode == 0
    assert planned.stdout.strip()


def test_the_tests_begin_with_every_check(make: Make) -> None:
    plan = make("--dry-run", "test").stdout

    commands = ["ruff check", "ruff format --check", "mypy", "lint-imports", "grpc_tools.protoc", "pytest"]
    places = [plan.index(command) for command in commands]
    assert places == sorted(places)


def test_arguments_are_passed_on(make: Make) -> None:
    for target in ("test", "test-slow", "test-gpu", "demo", "serve", "bench-sampling", "bench-kinds", "bench-dgdmn"):
        assert "--some-argument" in make("--dry-run", target, "ARGS=--some-argument").stdout, target


def test_a_missing_python_is_named_with_the_cure(make: Make, root: Path, tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((root / "Makefile").read_text())
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    done = make("setup", "PYTHON=", cwd=tmp_path)

    assert done.returncode != 0
    assert "Python 3.11 or 3.12 is needed" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_continuous_integration_runs_the_tests(root: Path) -> None:
    script = root / ".ci/run"
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]

    assert os.access(script, os.X_OK)
    assert commands[0] == "set -euo pipefail"
    assert commands[-1] == "exec make test </dev/null"


def test_the_makes_that_documents_mention_exist(root: Path) -> None:
    for document in [root / "README.md", root / "CONTRIBUTING.md", *(root / "docs").rglob("*.md")]:
        mentioned = set(re.findall(r"\bmake ([a-z][a-z-]*)(?=`| *$| ARGS| +#)", document.read_text(), re.MULTILINE))
        assert mentioned <= set(TARGETS), document.name
