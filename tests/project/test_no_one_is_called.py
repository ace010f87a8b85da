"""I9: no telemetry and no download. The one thing that opens a connection is the SDK's channel to the named server."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CALLERS = {
    "urllib",
    "http",
    "ftplib",
    "smtplib",
    "requests",
    "httpx",
    "aiohttp",
    "urllib3",
    "torch.hub",
    "huggingface_hub",
}
"""Modules that could call somebody."""

CHANNELS = {"insecure_channel", "secure_channel", "create_connection", "open_connection", "urlopen"}


@pytest.fixture(scope="module")
def product(root: Path) -> list[Path]:
    """Every source file that is installed."""
    folders = ("dgm_core", "memory_server", "clients/python/memory_client")
    return [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_file_imports_what_could_call_somebody(root: Path, product: list[Path]) -> None:
    assert len(product) > 100
    for path in product:
        for module in imported(ast.parse(path.read_text())):
            parts = module.split(".")
            prefixes = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
            assert not prefixes & CALLERS, f"{path.relative_to(root)} imports {module}"


def test_connections_are_opened_to_the_server_that_the_user_names_and_nowhere_else(
    root: Path, product: list[Path]
) -> None:
    opened = {}
    for path in product:
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        if found := names & CHANNELS:
            opened[path.relative_to(root).as_posix()] = found
    assert opened == {"clients/python/memory_client/channel.py": {"insecure_channel", "secure_channel"}}
