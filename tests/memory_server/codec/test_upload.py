import hashlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_api.v1 import memory_pb2 as pb

from dgm_core.memory import Terms
from dgm_core.style.library import SHIPPED
from memory_server.codec.upload import Header, Upload
from memory_server.errors import BadRequest, MemoryMismatch, UnknownTask


def header(**fields):
    spec = pb.DataSpec(shape=(1, 8, 8), dtype=pb.UINT8)
    return Header.decode(pb.LearnTaskHeader(**{"memory": "m", "task": "t", "spec": spec, **fields}))


def chunk(x, y, labels=()):
    classes = [pb.ClassLabel(integer=one) if isinstance(one, int) else pb.ClassLabel(text=one) for one in labels]
    return pb.LearnTaskChunk(x=x.tobytes(), y=np.asarray(y, "<i4").tobytes(), new_classes=classes)


def images(n):
    return np.random.default_rng(n).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)


@given(cuts=st.lists(st.integers(0, 30), max_size=6))
def test_the_digest_does_not_depend_on_where_the_chunks_are_cut(cuts):
    x, y = images(30), np.arange(30) % 3
    bounds = [0, *sorted(cuts), 30]
    upload = Upload(header(), known=())
    upload.chunk(chunk(x[:0], y[:0], ("ä", "b", "c")))
    for start, stop in pairwise(bounds):
        upload.chunk(chunk(x[start:stop], y[start:stop]))
    encoded = [b"s\x02\0\0\0\xc3\xa4", b"s\x01\0\0\0b", b"s\x01\0\0\0c"]
    of_labels = hashlib.sha256(b"".join(encoded[index] for index in y)).digest()
    digest = hashlib.sha256(hashlib.sha256(x.tobytes()).digest() + of_labels)
    record = upload.finish(pb.LearnTaskFinish(count=30, digest=digest.digest()))
    assert (record.count, record.digest, record.classes) == (30, digest.hexdigest(), ("ä", "b", "c"))


def test_new_classes_may_come_with_any_chunk():
    upload = Upload(header(), known=())
    upload.chunk(chunk(images(2), [0, 0], (5,)))
    _, y = upload.chunk(chunk(images(2), [1, 0], (-6,)))
    assert upload.classes == [5, -6]
    assert y.tolist() == [1, 0]
    assert upload.count == 4


def test_a_refused_chunk_is_not_counted():
    upload = Upload(header(), known=())
    with pytest.raises(BadRequest):
        upload.chunk(chunk(images(2), [0, 1], (5,)))
    assert upload.count == 0


def test_classes_are_of_the_type_that_the_memory_has():
    with pytest.raises(BadRequest, match="type"):
        Upload(header(), known=("cat",)).chunk(chunk(images(1), [0], (5,)))


def test_a_budget_that_is_not_given_is_left_to_the_recipe():
    assert header().terms == Terms()
    assert header(steps=5, seconds=2.5, min_quality=0.0).terms == Terms(5, 2.5, 0.0)


def test_a_task_may_repeat_another_one_of_its_memory():
    repeating = header(revises="t0")
    assert repeating.terms == Terms(revises="t0")
    repeating.check_repeated("dual", ["t0", "t"])
    header().check_repeated("dgmw", [])


@pytest.mark.parametrize("tasks", [[], ["t1"]])
def test_a_task_that_repeats_one_that_is_not_there_is_refused_and_those_that_are_named(tasks):
    with pytest.raises(UnknownTask, match=f"no task 't0'; {'the tasks are' if tasks else 'it has no tasks'}"):
        header(revises="t0").check_repeated("dual", tasks)


def test_a_task_does_not_repeat_itself():
    with pytest.raises(UnknownTask):
        header(revises="t").check_repeated("dual", ["t"])


@pytest.mark.parametrize("kind", ["dgmw", "gan_memory", "dgr", "mergan"])
def test_most_kinds_do_not_repeat_tasks_and_say_so_before_any_data_comes(kind):
    with pytest.raises(BadRequest, match=rf"header\.revises: a memory of kind {kind} does not repeat tasks"):
        header(revises="t0").check_repeated(kind, ["t0"])


def test_the_name_of_a_repeated_task_is_a_name():
    with pytest.raises(BadRequest, match=r"header\.revises: 'a task' is not a name"):
        header(revises="a task")


def test_a_new_memory_draws_a_seed_and_keeps_the_options_that_are_given():
    seeds = {header(options={"width": "4"}).manifest(SHIPPED).options["seed"] for _ in range(4)}
    assert len(seeds) == 4
    assert header(options={"width": "4", "seed": "9"}).manifest(SHIPPED).options["seed"] == "9"
    assert header(options={"width": "4"}).manifest(SHIPPED).options["width"] == "4"


def test_an_option_that_a_memory_was_made_without_is_refused_by_name():
    manifest = header(kind="dgmw").manifest(SHIPPED)
    older = replace(manifest, options={name: text for name, text in manifest.options.items() if name != "width"})
    with pytest.raises(MemoryMismatch, match="made when there was no width, not 5; leave the option out"):
        header(options={"width": "5"}).check(older, (), SHIPPED)
