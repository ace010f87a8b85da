"""Whatever a request may repeat or spell out has a bound, and the refusal names the field and repeats nothing of it."""

import time

import pytest
from memory_api.v1 import memory_pb2 as pb

from dgm_core.style.library import SHIPPED
from memory_server.codec import queries, requests, values
from memory_server.codec.upload import Header, Upload
from memory_server.errors import BadRequest
from memory_server.interceptors.errors import status_of

SPEC = pb.DataSpec(shape=(1, 8, 8), dtype=pb.UINT8)
MANY, LONG = 100_000, "secret" * 10_000


def numbers(count):
    return [pb.ClassLabel(integer=number) for number in range(count)]


def header(**fields):
    return Header.decode(pb.LearnTaskHeader(**{"memory": "m", "task": "t", "spec": SPEC, **fields}))


def create(**fields):
    return requests.new_memory(pb.CreateMemoryRequest(**{"name": "m", "spec": SPEC, **fields}), SHIPPED)


def sample(**fields):
    return queries.sample_query(pb.SampleRequest(**{"memory": "m", **fields}), 1000)


def blend(**fields):
    return queries.blend_query(
        pb.InterpolateRequest(**{"memory": "m", "end": "t", "n": 1, "weights": [0], **fields}), 9
    )


def upload(**fields):
    return Upload(header(), ()).chunk(pb.LearnTaskChunk(**fields))


@pytest.mark.parametrize(
    ("ask", "fields", "named"),
    [
        (header, {"memory": LONG}, "header.memory"),
        (header, {"task": LONG}, "header.task"),
        (header, {"kind": LONG}, "header.kind"),
        (header, {"options": {str(key): "" for key in range(100)}}, "header.options"),
        (header, {"options": {LONG: ""}}, "header.options"),
        (header, {"options": {"width": "1" * 5000}}, "header.options.width"),
        (header, {"classes": numbers(MANY)}, "header.classes"),
        (header, {"classes": [pb.ClassLabel(text=LONG)]}, "header.classes[0]"),
        (header, {"spec": pb.DataSpec(shape=[8] * MANY, dtype=pb.UINT8)}, "header.spec.shape"),
        (create, {"name": LONG}, "name"),
        (create, {"kind": LONG}, "kind"),
        (create, {"options": {"network": LONG}}, "options.network"),
        (create, {"options": {"width": "²"}}, "options.width"),
        (create, {"spec": pb.DataSpec(shape=[8] * MANY, dtype=pb.UINT8)}, "spec.shape"),
        (sample, {"classes": numbers(MANY)}, "classes"),
        (sample, {"tasks": ["t"] * MANY}, "tasks"),
        (sample, {"tasks": [LONG]}, "tasks[0]"),
        (blend, {"groups": ["scale"] * MANY}, "groups"),
        (blend, {"groups": [LONG]}, "groups[0]"),
        (blend, {"layers": ["l"] * MANY}, "layers"),
        (blend, {"layers": [LONG]}, "layers[0]"),
        (blend, {"weights": [0.5] * MANY}, "weights"),
        (blend, {"start": LONG}, "start"),
        (upload, {"new_classes": numbers(MANY)}, "chunk.new_classes"),
    ],
)
def test_every_field_has_a_bound(ask, fields, named):
    with pytest.raises(BadRequest) as caught:
        ask(**fields)
    assert caught.value.field == named
    assert len(caught.value.description) < 500


def test_a_task_announces_its_classes_in_any_number_of_chunks_up_to_the_bound():
    task = Upload(header(), ())
    task.chunk(pb.LearnTaskChunk(new_classes=numbers(values.MAX_CLASSES)))
    with pytest.raises(BadRequest, match=f"at most {values.MAX_CLASSES}"):
        task.chunk(pb.LearnTaskChunk(new_classes=[pb.ClassLabel(integer=-1)]))


def test_the_most_classes_are_checked_in_no_time():
    twice = [*numbers(values.MAX_CLASSES - 1), pb.ClassLabel(integer=values.MAX_CLASSES - 2)]
    began = time.process_time()
    with pytest.raises(BadRequest, match="is named twice"):
        values.labels(twice, "classes")
    assert time.process_time() - began < 2, "it was quadratic"


def test_details_fit_into_the_headers_that_carry_them():
    assert len(status_of(BadRequest("options." + LONG, LONG)).SerializeToString()) < 4000
