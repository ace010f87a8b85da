"""Nothing that is read can run code: no pickle, nor what stands on it, in any package."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "compile"}


def faults(tree: ast.AST) -> Iterator[str]:
    """What a file does that could run what it reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            yield from _of_call(node)


def _of_call(call: ast.Call) -> Iterator[str]:
    given = {word.arg: word.value for word in call.keywords}

    def says(name: str, wanted: bool) -> bool:
        value = given.get(name)
        return isinstance(value, ast.Constant) and value.value is wanted

    called = ast.unparse(call.func)
    if called == "torch.load" and not says("weights_only", True):
        yield "torch.load without weights_only=True"
    if called in ("np.load", "numpy.load") and not says("allow_pickle", False):
        yield f"{called} without allow_pickle=False"
    if called in CALLS or called.startswith("yaml."):
        yield called


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "eval(x)",
        "def f():\n    import marshal",
    ],
)
def test_a_fault_is_seen(code: str) -> None:
    assert list(faults(ast.parse(code)))


def test_no_file_reads_what_could_run_code(root: Path) -> None:
    folders = ("dgm_core", "memory_server", "clients/python/memory_client", "proto")
    paths = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]
    assert len(paths) > 100
    found = {path.relative_to(root).as_posix(): list(faults(ast.parse(path.read_text()))) for path in paths}
    assert {path: what for path, what in found.items() if what} == {}
