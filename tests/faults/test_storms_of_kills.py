"""Invariant I3: whoever is killed at whatever instant, all that was reported as committed is there, to the bit."""

import random
import secrets
from collections import Counter
from itertools import cycle, islice
from statistics import median

import pytest

from tests.dgm_core.bases import random_base
from tests.faults.storm import DEEDS, Storm
from tests.faults.warm_server import Forked

STEPS = 60
"""The first thirty are not put down."""
MASKED = {"masked": {"kind": "dgmw", "steps": STEPS}}
STYLED = {"styled": {"kind": "gan_memory", "options": {"base": "tiny"}, "steps": STEPS}}


@pytest.mark.parametrize(
    ("kills", "kinds"),
    [(10, MASKED), pytest.param(200, MASKED | STYLED, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])],
    ids=["10", "200"],
)
def test_a_storm_of_kills_loses_nothing_that_was_committed(kills, kinds, new_server, connect):
    server = new_server(spawn=Forked, checkpoint_seconds=0.01, encryption_key=secrets.token_hex(32))
    (server.data_dir / "bases").mkdir(parents=True)
    (server.data_dir / "bases" / "tiny.safetensors").write_bytes(random_base("tiny").file)
    storm = Storm(server, connect, random.Random(kills), kinds)
    for deed in islice(cycle(DEEDS), kills):
        storm.round(deed)
        print(storm.deaths[-1], flush=True)
    print(
        dict(Counter(storm.deaths)), "seconds of starts:", spread(storm.starts), "of workers' ends:", spread(storm.ends)
    )
    print("checkpoints were left", storm.put_down, "times")
    assert len(storm.deaths) == kills
    assert storm.put_down, "nobody was killed while a training was put down"


def spread(seconds):
    return f"median {median(seconds):.2f} s, longest {max(seconds):.2f} s" if seconds else "none"
