"""How tasks use their generator, from a manifest to the wire."""

from dataclasses import replace

import pytest

from dgm_core.manifest import DataSpec, ExpertEntry, Manifest, TaskEntry
from dgm_core.memories import KINDS
from memory_server.codec import answers
from memory_server.store.records import MemoryRecord

LAYERS = {
    "in": {"size": 100, "reserved": 30, "reused": 0, "free": 70},
    "hidden": {"size": 50, "reserved": 5, "reused": 20, "free": 10},
}
TRAJECTORY = [
    {"step": 0, "slope": 1.0, "occupancy": {"in": 0.5, "hidden": 0.5}},
    {"step": 90, "slope": 0.0, "occupancy": {"in": 0.3, "hidden": 0.25}},
]


def entry(task: str = "t0", **changed: object) -> TaskEntry:
    """A task as a masked kind leaves it in a manifest."""
    analysis = {
        "gate": "weight",
        "order": list(LAYERS),
        "layers": LAYERS,
        "trajectory": TRAJECTORY,
        "parameters": 150,
        "worst_case": 600,
        "bytes": {"weights": 140, "masks": 19, "own": 900},
    }
    made = TaskEntry(task, "b" * 64, (ExpertEntry("e" * 64, (0, 1), (5, 6)),), quality=0.9, steps=90, seconds=1.5)
    return replace(made, **{"analysis": analysis, **changed})


def record(*tasks: TaskEntry) -> MemoryRecord:
    """A memory as the catalog reads it: its manifest has been a text in between."""
    manifest = Manifest("dgmw", {"seed": "7"}, DataSpec((1, 8, 8), "uint8"), len(tasks), tasks, {"solver": "s" * 64})
    return MemoryRecord("digits", Manifest.from_json(manifest.to_json()), bytes=9, created_unix_ms=1)


def test_what_was_measured_of_a_task_is_on_the_wire():
    (analysis,) = answers.analysed_memory(record(entry(reuses=("a", "b"), erasable=True))).analysis

    assert (analysis.task, analysis.gate, analysis.erasable, list(analysis.reuses)) == (
        "t0",
        "weight",
        True,
        ["a", "b"],
    )
    assert (analysis.parameters, analysis.worst_case) == (150, 600)
    assert (analysis.weight_bytes, analysis.mask_bytes, analysis.own_bytes) == (140, 19, 900)
    usage = {u.layer: {name: getattr(u, name) for name in LAYERS["in"]} for u in analysis.layers}
    assert usage == LAYERS
    points = [{"step": p.step, "slope": p.slope, "occupancy": dict(p.occupancy)} for p in analysis.trajectory]
    assert points == TRAJECTORY


def test_layers_are_in_the_order_of_the_forward_pass_after_a_manifest_has_been_a_text():
    (analysis,) = answers.analysed_memory(record(entry())).analysis

    assert [usage.layer for usage in analysis.layers] == ["in", "hidden"]


def test_tasks_are_analysed_in_the_order_of_commits():
    analysis = answers.analysed_memory(record(entry("b"), entry("a"))).analysis

    assert [each.task for each in analysis] == ["b", "a"]


def test_a_task_of_a_kind_without_masks_has_a_name_and_nothing_measured():
    (analysis,) = answers.analysed_memory(record(entry(analysis={}))).analysis

    assert analysis == type(analysis)(task="t0")


def test_a_style_is_on_the_wire_with_what_its_task_stores_and_without_a_trajectory():
    layers = {"body.0": {"size": 900, "reserved": 60, "reused": 7, "free": 0}}
    sizes = {"weights": 240, "masks": 0, "own": 500}
    style = {
        "gate": "style",
        "order": ["body.0"],
        "layers": layers,
        "parameters": 70,
        "worst_case": 210,
        "bytes": sizes,
    }

    (analysis,) = answers.analysed_memory(record(entry(analysis={**style, "trajectory": []}))).analysis

    assert (analysis.gate, analysis.parameters, analysis.worst_case) == ("style", 70, 210)
    (usage,) = analysis.layers
    assert (usage.layer, usage.size, usage.reserved, usage.reused, usage.free) == ("body.0", 900, 60, 7, 0)
    assert (len(analysis.trajectory), analysis.mask_bytes, analysis.own_bytes) == (0, 0, 500)


def test_a_list_of_memories_carries_no_analysis():
    assert not answers.memory(record(entry())).analysis


@pytest.mark.parametrize(("shared", "complete"), [({"solver": "s" * 64}, True), ({}, False)])
def test_a_memory_is_complete_unless_its_solver_is_being_made_anew(shared, complete):
    known = record(entry())

    assert answers.memory(replace(known, manifest=replace(known.manifest, shared=shared))).complete is complete


@pytest.mark.parametrize("drowsy", [True, False])
def test_a_memory_that_sleeps_before_it_learns_more_says_so(drowsy, monkeypatch):
    known = record(entry())
    monkeypatch.setattr(KINDS[known.manifest.kind], "drowsy", lambda manifest: drowsy and manifest == known.manifest)

    assert answers.memory(known).drowsy is drowsy
