import pytest

from dgm_core.analysis import measured
from dgm_core.manifest import DataSpec, Learned, Manifest, Shared, TaskEntry

LAYER = {"size": 100, "reserved": 30, "reused": 0, "free": 70}
POINT = {"step": 0, "slope": 1.0, "occupancy": {"in": 0.5}}
ANALYSIS = {
    "gate": "gaussian",
    "order": ["in"],
    "layers": {"in": LAYER},
    "trajectory": [POINT],
    "parameters": 150,
    "worst_case": 600,
    "bytes": {"weights": 140, "masks": 19, "own": 900},
}


def entry(analysis):
    return TaskEntry("t0", "b" * 64, (), quality=0.9, steps=90, seconds=1.5, analysis=analysis)


@pytest.mark.parametrize("changed", [{}, {"trajectory": []}, {"order": [], "layers": {}, "trajectory": []}])
def test_what_has_the_form_of_an_analysis_is_one(changed):
    assert measured({**ANALYSIS, **changed}) == {**ANALYSIS, **changed}


def test_what_is_empty_is_none():
    assert measured({}) is None


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"bytes": {"weights": 140}}, "bytes has weights, not masks, own, weights"),
        ({"bytes": 5}, "bytes is int"),
        ({"extra": 5}, "analysis has bytes, extra"),
        ({"gate": None}, "gate"),
        ({"parameters": 1.5}, "parameters is 1.5"),
        ({"worst_case": -1}, "worst_case is -1"),
        ({"layers": {"in": {**LAYER, "size": True}}}, r"layers\['in'\].size is True"),
        ({"layers": {"in": {"size": 100}}}, r"layers\['in'\] has size"),
        ({"layers": [LAYER]}, "layers"),
        ({"order": []}, "order"),
        ({"order": ["in", "in"]}, "order"),
        ({"order": "in"}, "order"),
        ({"trajectory": None}, "trajectory"),
        ({"trajectory": [{"step": 0}]}, r"trajectory\[0\] has step"),
        ({"trajectory": [{**POINT, "step": 0.5}]}, r"trajectory\[0\].step"),
        ({"trajectory": [{**POINT, "slope": float("nan")}]}, "nan"),
        ({"trajectory": [{**POINT, "occupancy": {}}]}, "other layers"),
        ({"trajectory": [{**POINT, "occupancy": {"in": "half"}}]}, "half"),
    ],
)
def test_what_has_another_form_is_refused_by_what_is_wrong(changed, where):
    with pytest.raises(ValueError, match=where):
        measured({**ANALYSIS, **changed})


def test_no_revision_takes_what_cannot_be_told():
    manifest = Manifest("ppca", {"seed": "7"}, DataSpec((1, 8, 8), "uint8"))
    held = manifest.commit(Learned(entry(ANALYSIS), {}, {}, 0))
    for wrong in ({"parameters": 5}, {**ANALYSIS, "bytes": {}}):
        with pytest.raises(ValueError, match="cannot be told"):
            manifest.commit(Learned(entry(wrong), {}, {}, 0))
        with pytest.raises(ValueError, match="cannot be told"):
            held.restored(Shared({}, {}, (entry(wrong),)))
