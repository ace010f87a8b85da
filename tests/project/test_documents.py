"""Documents point at things that exist, and the project speaks of itself alone."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from memory_client.cli.app import app as memoryctl

from memory_server.__main__ import application
from memory_server.learning.endings import REASONS

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


def headings(document: Path) -> list[str]:
    """What links call the headings of a document, without those in blocks of code."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in re.findall(r"^#+ (.+)$", text, re.M)]


def test_every_link_to_a_heading_leads_to_one(documents: list[Path]) -> None:
    for document in documents:
        for target, name in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", document.read_text()):
            assert name in headings(document.parent / target if target else document), (
                f"{document.name}: {target}#{name}"
            )


def test_the_list_of_sections_of_operations_has_all_of_them(root: Path) -> None:
    text = (root / "docs/operations.md").read_text()
    incident, sections, *others = re.findall(r"^## (.+)$", text, re.MULTILINE)
    listed = re.findall(r"\[([^]]+)\]\(#", text.partition(f"## {sections}\n")[2].partition("\n## ")[0])

    assert (incident, sections) == ("In an incident", "Sections")
    assert sorted(listed) == sorted(others)


def test_every_reason_for_which_a_task_fails_has_a_row_that_says_what_to_do(root: Path) -> None:
    text = (root / "docs/operations.md").read_text()
    rows = re.findall(r"^\| .+ \| `([A-Z_]+)` \| .*\| .{10,} \|$", text, re.MULTILINE)

    assert set(rows) == set(REASONS.values())


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
