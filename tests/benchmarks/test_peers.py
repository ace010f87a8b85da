import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

PEERS = Path(__file__).parents[2] / "benchmarks" / "sampling" / "peers"
IMPORTED = "import expert, json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


def test_the_peers_environment_has_all_that_the_generator_is_loaded_with():
    done = subprocess.run([sys.executable, "-c", IMPORTED], cwd=PEERS, check=True, capture_output=True, text=True)
    known = packages_distributions()
    used = {normal(known[module][0]) for module in json.loads(done.stdout) if module in known}
    wanted = [name for line in (PEERS / "requirements.txt").read_text().splitlines() if (name := required(line))]
    missing = used - with_what_they_require(wanted) - {"generative-memory", "setuptools"}
    assert {"torch", "safetensors"} <= used and not missing


def with_what_they_require(names):
    """The distributions of these names, and all that they require without extras; those that are here."""
    found, left = set(), list(names)
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            left += [required(line) for line in requirements_of(name) if "extra ==" not in line]
    return found


def requirements_of(name):
    try:
        return requires(name) or []
    except ModuleNotFoundError:  # a peer, which is in the other environment
        return []


def required(line):
    """The name at the beginning of a requirement; empty for a comment."""
    return normal(re.match(r"[\w.-]*", line)[0])


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()
