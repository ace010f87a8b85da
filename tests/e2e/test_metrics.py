"""The table of metrics, the dashboard and the alert rules speak of what a real server exposes, and of all of it."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from memory_api.v1 import memory_pb2 as pb
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|(.*?)\| (.+) \|$", re.MULTILINE)
ON_CUDA_ALONE = "not there on a CPU"

Described = dict[str, tuple[str, set[str]]]
"""Name -> type and names of the labels."""


@pytest.fixture(scope="module")
def exposed(server, wire, taught) -> Iterator[dict[str, Metric]]:
    """What a server that has learned and sampled exposes, by the name under which it is asked for."""
    wire.sample(taught, n=10)
    wire.submit("measured", "t0", steps=1_000_000)  # what a learner does is told while it learns
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    yield {f"{one.name}_total" if one.type == "counter" else one.name: one for one in families}
    wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name="measured"), timeout=60)


@pytest.fixture(scope="module")
def documented() -> Described:
    rows = ROW.findall((ROOT / "docs/metrics.md").read_text())
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows}


def of_our_own(exposed) -> set[str]:
    return {name for name in exposed if name.startswith("memory_server_")}


def test_the_table_names_every_metric_that_is_exposed_and_no_other(exposed, documented):
    texts = {name: text for name, _, _, text in ROW.findall((ROOT / "docs/metrics.md").read_text())}
    device = {name for name, text in texts.items() if ON_CUDA_ALONE in text}
    assert documented.keys() - device == of_our_own(exposed)


def test_the_table_has_the_types_and_the_labels(exposed, documented):
    for name in of_our_own(exposed):
        kind, labels = documented[name]
        assert exposed[name].type == kind, name
        for sample in exposed[name].samples:
            assert sample.labels.keys() - {"le"} == labels, name


def test_names_follow_the_conventions(exposed):
    for name in of_our_own(exposed):
        assert re.fullmatch(r"memory_server_[a-z_]+", name)
        assert not re.search(r"_(ms|milliseconds|kb|mb|percent|count)$", name), "base units only"
        assert (exposed[name].type == "counter") == name.endswith("_total")
        assert exposed[name].type != "histogram" or name.endswith("_seconds")


def expressions() -> dict[str, str]:
    """Every query of the alert rules and of the dashboard, by who asks."""
    (group,) = yaml.safe_load((ROOT / "deploy/alerts.yaml").read_text())["groups"]
    asked = {rule["alert"]: rule["expr"] for rule in group["rules"]}
    for panel in json.loads((ROOT / "deploy/dashboard.json").read_text())["panels"]:
        asked |= {f"{panel['title']} {one['refId']}": one["expr"] for one in panel.get("targets", [])}
    return asked


METRIC = re.compile(r"\b((?:memory_server|process)_\w+)(?:\{(.*?)\})?")


@pytest.mark.parametrize("asker", expressions())
def test_a_query_asks_for_metrics_and_labels_that_there_are(asker, exposed, documented):
    known = {name: labels for name, (_, labels) in documented.items()}
    known |= {name: set() for name in exposed if name.startswith("process_")}
    asked = METRIC.findall(expressions()[asker])
    assert asked or "up{" in expressions()[asker]
    for series, selector in asked:
        name = re.sub(r"_(bucket|sum|count)$", "", series)
        assert name in known, series
        assert name == series or documented[name][0] == "histogram", series
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) <= known[name] | {"instance", "job"}, series


def test_every_metric_is_on_the_dashboard(documented):
    asked = {
        re.sub(r"_(bucket|sum|count)$", "", name) for text in expressions().values() for name, _ in METRIC.findall(text)
    }
    assert documented.keys() <= asked
