from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memory_server.sampling import noise

seeds = st.integers(0, 2**64 - 1)
labels = st.integers(-(2**63), 2**63 - 1) | st.text(min_size=1, max_size=8)


@given(seed=seeds, batch=st.integers(0, 2**40), label=labels, start=st.integers(0, 200), rows=st.integers(1, 150))
def test_a_row_of_noise_is_the_same_whichever_rows_are_drawn_with_it(seed, batch, label, start, rows):
    everything = noise.normal(seed, batch, label, range(start + rows), 5)
    part = noise.normal(seed, batch, label, range(start, start + rows), 5)
    assert part.dtype == np.float32
    assert np.array_equal(part, everything[start:])


@given(seed=seeds, label=labels)
def test_seed_batch_and_class_each_change_all_of_the_noise(seed, label):
    other = label + 1 if isinstance(label, int) and label < 2**63 - 1 else f"other {label}"
    here = noise.normal(seed, 0, label, range(4), 8)
    for elsewhere in (
        noise.normal(seed ^ 1, 0, label, range(4), 8),
        noise.normal(seed, 1, label, range(4), 8),
        noise.normal(seed, 0, other, range(4), 8),
    ):
        assert not np.any(here == elsewhere)


def test_an_integer_and_its_text_are_different_classes():
    assert noise.canonical(7) != noise.canonical("7")
    assert not np.array_equal(noise.normal(0, 0, 7, range(2), 4), noise.normal(0, 0, "7", range(2), 4))


def test_no_row_of_a_stream_repeats_over_blocks_and_batches():
    rows = np.concatenate([noise.normal(3, batch, "a", range(200), 4) for batch in range(20)])
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_the_noise_is_standard_normal():
    z = noise.normal(1, 0, 0, range(20_000), 10)
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01


def test_noise_is_drawn_as_by_a_generator_of_its_own_whatever_was_drawn_before(monkeypatch):
    key = noise._key(b"noise", 5, 3, noise.canonical("cat"))
    apart = np.random.Generator(np.random.Philox(key=key, counter=1 << 64)).standard_normal((9, 7), np.float32)
    key = noise._key(b"order", 5, 3, bytes(8))
    order = np.random.Generator(np.random.Philox(key=key)).permutation(101)
    noise.permutation(0, 0, 0, 33)
    monkeypatch.setattr(np.random, "Philox", None)  # making one takes longer than most draws
    for _ in range(2):
        assert np.array_equal(noise.normal(5, 3, "cat", range(64, 73), 7), apart)
        assert np.array_equal(noise.permutation(5, 3, 0, 101), order)


def test_each_thread_draws_for_itself():
    def drawn(seed):
        return [noise.normal(seed, batch, "a", range(64), 4).tobytes() for batch in range(200)]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(drawn, range(8)))
    assert found == list(map(drawn, range(8)))


def test_the_noise_of_a_seed_never_changes_between_versions():
    first = noise.normal(2026, 3, "cat", range(70, 71), 3)[0]
    assert first.tobytes().hex() == "def0bcbd23d4f6be451e54be"
