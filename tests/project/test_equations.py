"""docs/equations.md is true: tag | meaning | code | test."""

import re
from pathlib import Path

import pytest

TAG = re.compile(r"\[\w[\w-]* (?:eq|sec|alg|app)\. [^\]\n]+\]")  # of any paper


@pytest.fixture(scope="module")
def index(root: Path) -> dict[str, tuple[set[str], str]]:
    """Tag -> (files that compute it, test that shows it)."""
    rows = re.findall(r"^\| `(\[.+?\])` \|[^|]+\|([^|]+)\|([^|]+)\|$", (root / "docs/equations.md").read_text(), re.M)
    assert len(rows) == len({tag for tag, _, _ in rows}), "a tag has two rows"
    return {tag: (set(re.findall(r"`(.+?)`", code)), test.strip().strip("`")) for tag, code, test in rows}


@pytest.fixture(scope="module")
def tagged(root: Path) -> dict[str, set[str]]:
    """Tag -> files of the core that carry it."""
    found: dict[str, set[str]] = {}
    for path in sorted((root / "dgm_core").rglob("*.py")):
        for tag in TAG.findall(path.read_text()):
            found.setdefault(tag, set()).add(path.relative_to(root).as_posix())
    return found


def test_every_tag_in_the_code_is_in_the_index_with_exactly_its_files(
    index: dict[str, tuple[set[str], str]], tagged: dict[str, set[str]]
) -> None:
    assert {tag: files for tag, (files, _) in index.items()} == tagged


def test_a_tag_of_any_paper_is_one() -> None:
    assert TAG.findall("x = Wz  [PPCA eq. 2] [f-GAN app. B, C], not [1]") == ["[PPCA eq. 2]", "[f-GAN app. B, C]"]


def test_every_equation_names_a_test_that_exists(root: Path, index: dict[str, tuple[set[str], str]]) -> None:
    for tag, (_, test) in index.items():
        path, name = test.split("::")
        assert f"def {name}(" in (root / path).read_text(), tag
