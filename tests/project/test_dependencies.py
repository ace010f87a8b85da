"""Ranges in pyproject.toml, exact pins in constraints.txt, lower bounds set by the stubs."""

import re
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


@pytest.fixture(scope="module")
def pins(root: Path) -> dict[str, Version]:
    """Canonical name -> pinned version."""
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    parsed = [line.split("==") for line in lines]
    assert len(parsed) == len({name for name, _ in parsed}), "a name is pinned twice"
    return {canonicalize_name(name): Version(version) for name, version in parsed}


def direct(pyproject: dict[str, Any]) -> list[Requirement]:
    """Everything that pyproject.toml asks for."""
    project = pyproject["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    return [Requirement(text) for text in texts]


def test_every_dependency_is_a_range_that_its_pin_satisfies(
    pyproject: dict[str, Any], pins: dict[str, Version]
) -> None:
    for requirement in direct(pyproject):
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement
        assert any(bound.operator == ">=" for bound in requirement.specifier), requirement


def test_no_pin_names_a_build_for_one_device(pins: dict[str, Version]) -> None:
    assert [name for name, version in pins.items() if version.local] == []
    assert [name for name in pins if name.startswith(("nvidia", "cuda", "triton"))] == []


def test_the_extras_are_the_documented_ones(pyproject: dict[str, Any], root: Path) -> None:
    extras = set(pyproject["project"]["optional-dependencies"])

    assert extras == {"cli", "plot", "server", "demo", "trace", "tensorboard", "dev"}
    assert extras <= set(re.findall(r"`\[(\w+)\]`", (root / "README.md").read_text()))


def test_the_stubs_accept_the_oldest_admitted_grpcio_and_protobuf(root: Path, pyproject: dict[str, Any]) -> None:
    stubs = root / "proto/memory_api/v1"
    grpcio = re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", (stubs / "memory_pb2_grpc.py").read_text())
    protobuf = re.search(r"Protobuf Python Version: ([\d.]+)", (stubs / "memory_pb2.py").read_text())
    base = {(r := Requirement(text)).name: r.specifier for text in pyproject["project"]["dependencies"]}

    for name, generated in (("grpcio", grpcio), ("protobuf", protobuf)):
        assert generated is not None
        lowest = next(Version(bound.version) for bound in base[name] if bound.operator == ">=")
        assert Version(generated[1]) <= lowest, name


def licence(distribution: Distribution) -> str:
    """What a distribution says of its licence, in whichever of three fields."""
    named = distribution.metadata.get_all("License-Expression") or [
        line.rsplit("::", 1)[1].strip()
        for line in distribution.metadata.get_all("Classifier", [])
        if line.startswith("License ::")
    ]
    return "; ".join(named or distribution.metadata.get_all("License", []))


def test_what_is_installed_is_what_is_pinned(pins: dict[str, Version]) -> None:
    unpinned = {"pip", "setuptools", "generative-memory"}
    installed = {canonicalize_name(one.name): Version(one.version).public for one in distributions()}

    assert {name: found for name, found in installed.items() if name not in unpinned} == {
        name: str(pins.get(name)) for name in installed if name not in unpinned
    }


def test_every_licence_lets_the_project_be_given_on_under_its_own() -> None:
    permissive = r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|Zlib|MPL|Mozilla Public|DFSG"
    found = {one.name: licence(one) for one in distributions()}

    assert {name: text for name, text in found.items() if not re.search(permissive, text)} == {}
    assert {name: text for name, text in found.items() if re.search(r"\b[AL]?GPL|Affero|SSPL", text)} == {}


def test_the_changelog_has_this_version(root: Path, pyproject: dict[str, Any]) -> None:
    assert f"\n## [{pyproject['project']['version']}]" in (root / "CHANGELOG.md").read_text()
