"""Invariant I1: no forgetting, to the bit."""


def test_seeded_samples_of_the_first_task_stay_the_same_bytes_over_tasks_and_restarts(new_server, connect):
    server = new_server().start()
    request = {"classes": (0, 1), "n": 100, "batch_size": 32, "seed": 2026}
    seen = []
    for task, classes in (("t0", (0, 1)), ("t1", (2, 3)), ("t2", (4, 5))):
        wire = connect(server)
        wire.learn("digits", task, classes)
        seen.append(wire.sample("digits", **request).x)
        before = wire.everything()
        server.restart()
        assert connect(server).everything() == before
        seen.append(connect(server).sample("digits", **request).x)
    assert len(seen[0]) == 100 * 64
    assert len(set(seen[0])) > 1, "the samples are empty pictures"
    assert all(later == seen[0] for later in seen)
