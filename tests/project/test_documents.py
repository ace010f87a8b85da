"""Documents point at things that exist, and the project speaks of itself alone."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from memory_client.cli.app import app as memoryctl

from memory_server.__main__ import application

REFERENCE = re.compile(r"`((?:[\w.-]+/)+[\w.-]*\.(?:py|proto|md|toml|txt|yaml))(?:::([\w.]+))?`")
PROGRAMS = {"memoryctl": memoryctl, "memory-server": application()}
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)")
FORBIDDEN = re.compile(r"(?<![\w./])/(?:work|tmp|root|home)/\w|pypi\.org|pythonhosted|download\.pytorch", re.IGNORECASE)


@pytest.fixture(scope="module")
def documents(root: Path) -> list[Path]:
    """Everything that is written for people."""
    return [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]


def test_every_file_class_and_function_that_a_document_names_exists(root: Path, documents: list[Path]) -> None:
    for document in documents:
        for path, name in REFERENCE.findall(document.read_text()):
            assert (root / path).is_file(), f"{document.name}: {path}"
            source = (root / path).read_text()
            for part in filter(None, name.split(".")):
                defined = re.search(rf"^ *(?:(?:async )?def|class|rpc|message) {part}\b|^{part}\b.*=", source, re.M)
                assert defined, f"{document.name}: {path}::{name}"


def test_every_link_leads_somewhere(documents: list[Path]) -> None:
    for document in documents:
        for target in LINK.findall(document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


COMMAND = re.compile(r"^(memoryctl|memory-server) ((?:base|key|token) \w+|\w+)([^#\n]*)", re.MULTILINE)


def test_every_command_line_in_the_documents_has_those_options(documents: list[Path]) -> None:
    lines = {line for document in documents for line in COMMAND.findall(document.read_text())}
    assert lines
    for program, words, rest in sorted(lines):
        command: Any = typer.main.get_command(PROGRAMS[program])
        common = {name for option in command.params for name in option.opts}
        for word in words.split():
            command = command.commands[word]
        options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        assert {word for word in rest.split() if word.startswith("--")} - common <= options, words


def test_decisions_are_numbered_without_gaps(root: Path) -> None:
    numbers = sorted(int(path.name[:4]) for path in (root / "docs/adr").glob("*.md"))

    assert numbers == list(range(1, len(numbers) + 1))


def test_no_file_names_a_machine_or_a_package_registry(root: Path, sources: list[Path]) -> None:
    this = Path(__file__).resolve()
    found = [
        f"{path.relative_to(root)}: {match[0]}"
        for path in sources
        if path.resolve() != this
        for match in FORBIDDEN.finditer(path.read_text(errors="replace"))  # some are not text
    ]

    assert found == []
