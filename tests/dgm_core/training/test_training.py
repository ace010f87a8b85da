import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dgm_core.manifest import DataSpec
from dgm_core.memory import Progress, TaskData
from dgm_core.training.averaging import Average
from dgm_core.training.batches import BalancedBatches, MixedBatches, split, standardisation, to_range
from dgm_core.training.classifying import Pool, accuracy, train_classifier, worn
from dgm_core.training.clock import Clock, limit_of

SPEC = DataSpec((2,), "float32")


def test_averaging_a_constant_leaves_it_constant_to_the_bit():
    p = nn.Parameter(torch.randn(1000))
    before = p.detach().clone()
    average = Average({"p": p}, {}, 0.999)
    for _ in range(200):
        average.update()
    average.apply()
    assert torch.equal(p, before)


def test_only_entries_that_may_change_are_averaged():
    p = nn.Parameter(torch.zeros(2))
    average = Average({"p": p}, {"p": torch.tensor([True, False])}, 0.5)
    with torch.no_grad():
        p += 1
    average.update()
    average.apply()
    assert 0 < p[0] < 1 and p[1] == 1


@given(st.lists(st.integers(8, 40), min_size=1, max_size=4), st.integers(0, 99))
def test_a_split_is_a_partition_with_a_tenth_of_every_class(counts, seed):
    y = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])
    data = TaskData(torch.arange(len(y), dtype=torch.float32)[:, None], y, tuple(range(len(counts))))
    train, test = split(data, 0.1, torch.Generator().manual_seed(seed))
    assert torch.equal(torch.cat([train.x, test.x]).sort(dim=0).values, data.x)
    assert torch.bincount(test.y).tolist() == [max(1, round(0.1 * n)) for n in counts]
    assert torch.equal(y[train.x[:, 0].long()], train.y) and torch.equal(y[test.x[:, 0].long()], test.y)


def test_batches_draw_every_class_equally_often_whatever_its_share():
    y = torch.tensor([0] * 990 + [1] * 10)
    x, c = BalancedBatches(y[:, None].float(), y, 2).draw(4000)
    assert 0.45 < c.float().mean() < 0.55
    assert torch.equal(x[:, 0].long(), c)


def test_a_class_without_examples_is_never_drawn():
    _, c = BalancedBatches(torch.zeros(20, 1), torch.tensor([0, 2] * 10), 4).draw(200)
    assert set(c.tolist()) == {0, 2}


@pytest.mark.parametrize("share", [0.0, 1 / 30, 0.5, 1.0])
def test_a_mixture_has_the_share_that_was_asked_for_however_small_its_batches(share):
    torch.manual_seed(0)
    first, second = (BalancedBatches(torch.zeros(10, 1), torch.full((10,), c), 2) for c in (0, 1))
    batches = MixedBatches(first, second, share)
    drawn = torch.cat([batches.draw(7)[1] for _ in range(300)])
    assert len(drawn) == 2100 and abs(float((drawn == 0).float().mean()) - share) < 0.01


def test_images_are_scaled_to_minus_one_and_one_and_vectors_left_alone():
    assert to_range(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]
    assert to_range(torch.tensor([7.5])).tolist() == [7.5]


def test_a_constant_feature_is_standardised_without_dividing_by_zero():
    mean, deviation = standardisation(torch.tensor([[3.0, 1.0], [3.0, -1.0]]))
    assert mean.tolist() == [3, 0] and deviation.tolist() == [1, 1]


def test_a_classifier_learns_what_can_be_told_apart_from_unbalanced_pools():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(300, 2) + 3, torch.randn(30, 2) - 3])
    y = torch.tensor([0] * 300 + [1] * 30)
    network = train_classifier(SPEC, 2, [Pool(x[:300], y[:300]), Pool(x[300:], y[300:])], 60, lambda taken: taken)
    assert accuracy(network, Pool(x, y)) > 0.98


def test_a_classifier_gives_the_first_pool_the_share_that_it_is_told():
    """Where two pools contradict each other, the larger share is believed."""
    x = torch.randn(400, 2)
    pools = [Pool(x, torch.zeros(400, dtype=torch.int64)), Pool(x, torch.ones(400, dtype=torch.int64))]
    for share, believed in ((0.2, 1), (0.8, 0)):
        torch.manual_seed(0)
        network = train_classifier(SPEC, 2, pools, 60, lambda taken: taken, share)
        assert accuracy(network, pools[believed]) > 0.95


def test_a_classifier_in_a_hurry_walks_through_its_whole_schedule_in_fewer_steps(monkeypatch):
    """Its learning rate rises and has fallen again by the end, however few steps there are."""
    rates = []
    step = torch.optim.Adam.step

    def watched(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    pool = Pool(torch.randn(20, 2), torch.arange(20) % 2)
    train_classifier(SPEC, 2, [pool], 60, lambda taken: 3 * taken)
    assert len(rates) == 20
    assert max(rates) > 10 * rates[0] and rates[-1] < max(rates) / 10


def test_every_phase_walks_through_its_schedule_in_the_time_that_is_left_to_it():
    now = [0.0]
    clock = Clock(lambda progress: None, limit=100.0, now=lambda: now[0])
    now[0] = 85.0
    assert clock.position("generator", 3, 1000) == 1000
    now[0] = 90.0  # the generator's norms took five seconds beyond its share
    assert clock.position("solver", 0, 300) == 0
    now[0] = 95.0
    assert clock.position("solver", 4, 300) == 150
    now[0] = 102.0
    assert clock.position("solver", 8, 300) == 300


def test_a_phase_for_which_no_time_is_left_is_at_its_end():
    now = [0.0]
    clock = Clock(lambda progress: None, limit=100.0, now=lambda: now[0])
    now[0] = 101.0
    assert clock.position("solver", 0, 300) == 300


def test_the_strictest_limit_holds():
    assert limit_of(None, None) is None
    assert limit_of(5.0, None, 3.0) == 3.0


def test_the_first_estimate_comes_from_the_pace_of_the_first_steps():
    seen: list[Progress] = []
    clock = Clock(seen.append, now=lambda: 0.0)
    clock.expect(85.0)
    clock.tick("generator", 0, 100)
    assert seen[0].seconds_left == pytest.approx(100)


def test_a_schedule_follows_the_steps_or_the_time_whichever_is_further():
    now = [0.0]
    clock = Clock(lambda progress: None, limit=100.0, now=lambda: now[0])
    assert clock.position("generator", 10, 1000) == 10
    now[0] = 42.5  # half of the generator's share
    assert clock.position("generator", 10, 1000) == 500
    assert clock.position("generator", 700, 1000) == 700
    assert Clock(lambda progress: None, now=lambda: now[0]).position("generator", 3, 1000) == 3


def test_an_estimate_is_never_longer_than_the_limit():
    seen: list[Progress] = []
    clock = Clock(seen.append, limit=50.0, now=lambda: 0.0)
    clock.expect(80.0)
    clock.tick("generator", 0, 100)
    assert seen[0].seconds_left == 50.0


def test_progress_rises_through_the_phases_and_estimates_what_is_left():
    seen: list[Progress] = []
    time = iter(range(0, 1000, 10))
    clock = Clock(seen.append, now=lambda: float(next(time)))
    for phase in ("generator", "solver"):
        for step in range(0, 101, 50):
            clock.tick(phase, step, 100)
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == pytest.approx(1)
    assert seen[0].seconds_left is None  # nothing is known yet
    assert seen[-1].seconds_left == pytest.approx(0)


def test_images_are_blurred_and_roughened_to_many_degrees_and_what_is_too_small_for_that_is_not():
    torch.manual_seed(0)
    x = torch.zeros(64, 1, 16, 16)
    x[:, :, :, 8] = 1.0
    seen = worn(x)
    degrees = 1 - seen[:, 0, :, 8].mean(dim=1)  # a third of a line is left of it where it is blurred most
    assert seen.shape == x.shape and degrees.min() < 0.15 and 0.5 < degrees.max() < 0.8
    roughness = seen[:, 0, :, :6].flatten(1).std(dim=1)
    assert roughness.min() < 0.05 and 0.25 < roughness.max() < 0.35
    for small in (torch.ones(3, 1, 8, 16), torch.ones(3, 20)):
        assert worn(small) is small


def test_a_phase_that_a_clock_does_not_have_is_named_with_those_that_it_has():
    with pytest.raises(ValueError, match=r"no phase 'fit'.* generator, solver"):
        Clock(lambda progress: None).tick("fit", 0, 1)
