"""What the tests of the project itself share."""

import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def pyproject(root: Path) -> dict[str, Any]:
    """pyproject.toml, parsed."""
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="session")
def sources(root: Path) -> list[Path]:
    """Every text file that is part of the project, tracked or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = [root / line for line in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and path.suffix not in {".png", ".npz"}]


@pytest.fixture(scope="session")
def make(root: Path) -> Callable[..., str]:
    """Runs make in the root and returns what it prints."""

    def run(*arguments: str) -> str:
        done = subprocess.run(["make", *arguments], cwd=root, check=True, capture_output=True, text=True)
        return done.stdout

    return run
