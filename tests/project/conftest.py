"""What the tests of the project itself share."""

import os
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., subprocess.CompletedProcess[str]]


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
    """Every text file of the project: all but what .gitignore names, and pictures."""
    ignored = {line.strip("/") for line in (root / ".gitignore").read_text().splitlines()} | {".git"}
    folders = [folder for folder in root.iterdir() if folder.is_dir() and folder.name not in ignored]
    files = [path for path in root.iterdir() if path.is_file()]
    files += [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    kept = [path for path in files if not ignored & set(path.relative_to(root).parts)]
    assert len(kept) > 50, "the project's own files were not found"
    return [path for path in kept if path.suffix not in {".png", ".npz"}]


@pytest.fixture(scope="session")
def make(root: Path) -> Make:
    """Runs make in the root, or in `cwd`, as if no other make had called it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}

    def run(*arguments: str, cwd: Path = root) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["make", *arguments], cwd=cwd, env=own, check=False, capture_output=True, text=True)

    return run
