"""What a hostile file may say, and is not believed."""

import hashlib
from dataclasses import replace

import pytest
import torch

from dgm_core.manifest import DataSpec, ExpertEntry, Manifest, TaskEntry
from dgm_core.memories import new_manifest
from dgm_core.style.library import SHIPPED
from memory_server.codec.imports import check
from memory_server.store.errors import BadArchive
from memory_server.store.records import Portable, TaskRecord, TaskState
from tests.dgm_core.bases import IMAGE, Shelf, random_base

BLOBS = {hashlib.sha256(content).hexdigest(): content for content in (b"weights", b"solver")}
OWN, SOLVER = BLOBS
EXPERT = ExpertEntry("e" * 64, (0, 1), (5, 6))
ENTRY = TaskEntry("t0", OWN, (EXPERT,), 0.5, 10, 1.5)
MINE = random_base("mine")
WITHOUT_NUMBERS = replace(MINE, score={name: t * torch.nan for name, t in MINE.score.items()}).blob
RECORD = TaskRecord("digits", "t0", (0, 1), 11, "d", TaskState.LEARNED, quality=0.5)


@pytest.fixture
def manifest() -> Manifest:
    empty = new_manifest("dgmw", {"width": "4"}, DataSpec((1, 8, 8), "uint8"), seed=1)
    return replace(empty, revision=1, tasks=(ENTRY,), shared={"solver": SOLVER})


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"task": "../../etc"}, "is not a name"),
        ({"experts": (replace(EXPERT, digest="../x"),)}, "digest"),
        ({"experts": (replace(EXPERT, classes=(0, "a")),)}, "mix integers and texts"),
        ({"experts": (replace(EXPERT, examples=(5,)),)}, "counts"),
        ({"quality": 2.0}, "range"),
        ({"steps": -1}, "range"),
        ({"analysis": {"order": ["conv9"]}}, "not what its manifest says"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(manifest, entry, why):
    with pytest.raises(BadArchive, match=why):
        check(Portable(replace(manifest, tasks=(replace(ENTRY, **entry),)), (), ()), BLOBS, SHIPPED)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"tasks": (ENTRY, ENTRY)}, "one name"),
        ({"kind": "none"}, "there is no memory kind"),
        ({"options": {"seed": "x"}}, "not what its manifest says"),
        ({"options": {"seed": "1", "width": "10000000"}}, "width"),
        ({"options": {"seed": "1"}}, "options"),
        ({"revision": -1}, "revision"),
        ({"revision": 2**60}, "revision"),
        ({"shared": {"solver": "x"}}, "digest"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(manifest, changed, why):
    with pytest.raises(BadArchive, match=why):
        check(Portable(replace(manifest, **changed), (), ()), BLOBS, SHIPPED)


def standing(base, spec=IMAGE):
    """An empty memory on a base, and the blob that is to be it."""
    options = new_manifest("gan_memory", {"base": MINE.digest}, IMAGE, seed=1, bases=Shelf((MINE,))).options
    return Portable(Manifest("gan_memory", options, spec), (), ()), {MINE.digest: base}


def test_a_memory_brings_a_base_that_nobody_here_knows():
    check(*standing(MINE.blob), SHIPPED)


@pytest.mark.parametrize(
    ("base", "spec", "why"),
    [
        (random_base("other", seed=1).blob, IMAGE, f"there is no base '{MINE.digest}'"),
        (MINE.blob[:-1], IMAGE, "not what its manifest says"),
        (b"\x80\x04\x95 a pickle", IMAGE, "not what its manifest says"),
        (MINE.blob, DataSpec((3, 8, 8), "uint8"), r"\(1, 8, 8\).*\(3, 8, 8\)"),
        (MINE.blob, DataSpec((6,), "float32"), r"gan_memory takes images .*\(6,\)"),
        (WITHOUT_NUMBERS, IMAGE, "not what its manifest says"),
    ],
    ids=["another", "cut", "a pickle", "other channels", "vectors", "weights that are no numbers"],
)
def test_a_base_that_is_none_or_does_not_fit_is_refused(base, spec, why):
    with pytest.raises(BadArchive, match=why):
        check(*standing(base, spec), SHIPPED)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"task": "t1"}, "records"),
        ({"state": TaskState.QUEUED}, "not learned"),
        ({"count": -1}, "range"),
        ({"classes": (1, 1)}, "twice"),
        ({"classes": (2**63,)}, "not what its manifest says"),
    ],
)
def test_a_record_that_cannot_be_is_refused(manifest, record, why):
    with pytest.raises(BadArchive, match=why):
        check(Portable(manifest, (replace(RECORD, **record),), ()), BLOBS, SHIPPED)


def test_blobs_that_are_not_what_the_manifest_says_are_refused(manifest):
    with pytest.raises(BadArchive, match="its content is not what its manifest says"):
        check(Portable(manifest, (RECORD,), ()), BLOBS, SHIPPED)
