"""Whatever a message holds, decoding it either succeeds or says which field is wrong."""

import random
from contextlib import suppress

import pytest
from memory_api.v1 import memory_pb2 as pb

from dgm_core.manifest import DataSpec
from dgm_core.memories import new_manifest
from dgm_core.style.library import SHIPPED
from memory_server.codec import queries, requests
from memory_server.codec.upload import Header, Upload
from memory_server.errors import BadRequest, MemoryMismatch
from tests.hostile import Hostile

PRESENT = new_manifest("dgmw", {}, DataSpec((1, 8, 8), "uint8"), seed=1)
SPEC = pb.DataSpec(shape=(1, 8, 8), dtype=pb.UINT8)


def learn_header(sent):
    header = Header.decode(sent)
    with suppress(MemoryMismatch):
        header.check(PRESENT, (1, 2), SHIPPED)
    header.manifest(SHIPPED)


def learn_data(sent):
    upload = Upload(Header.decode(pb.LearnTaskHeader(memory="m", task="t", spec=SPEC)), known=())
    upload.chunk(sent.chunk)
    upload.finish(sent.finish)


DECODERS = {
    "CreateMemory": (pb.CreateMemoryRequest, lambda sent: requests.new_memory(sent, SHIPPED)),
    "the header of LearnTask": (pb.LearnTaskHeader, learn_header),
    "the data of LearnTask": (pb.LearnTaskRequest, learn_data),
    "Sample": (pb.SampleRequest, lambda sent: queries.sample_query(sent, 5000)),
    "Interpolate": (pb.InterpolateRequest, lambda sent: queries.blend_query(sent, 5000)),
    "the memory offered with Sample": (pb.SampleRequest, lambda sent: queries.offer(sent, "unix:")),
    "Classify": (pb.ClassifyRequest, lambda sent: requests.classify_rows(sent, PRESENT)),
}


@pytest.mark.parametrize("count", [1000, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_message_is_decoded_or_its_field_is_named(decoder, count):
    kind, decode = DECODERS[decoder]
    for number in range(count):
        sent = Hostile(random.Random(number)).message(kind.DESCRIPTOR)
        try:
            decode(sent)
        except BadRequest as refusal:
            assert refusal.field
        except Exception as error:
            raise AssertionError(f"message {number} of {decoder} is answered by {error!r}") from error
