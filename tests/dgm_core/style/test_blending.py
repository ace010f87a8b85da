"""Between two tasks, and the switches of Fig. 2."""

import pytest
import torch

from dgm_core.errors import CannotBlend
from dgm_core.memories import load_memory, new_manifest
from dgm_core.memory import Blend, TaskData, Terms
from dgm_core.networks import ARCHITECTURES
from dgm_core.style.foundation import Foundation
from dgm_core.style.modulation import modulations
from tests.dgm_core.bases import IMAGE, Shelf, random_base, tiny_bases

pytestmark = pytest.mark.usefixtures("small_batches")

CPU = torch.device("cpu")


def taught(steps=150, bases=None, **options):
    """A memory of two tasks: bright and dark images, two classes each."""
    bases = bases or tiny_bases()
    manifest = new_manifest("gan_memory", options, IMAGE, 0, bases=bases)
    blobs = {base.digest: base.blob for base in bases.all}
    source = torch.Generator().manual_seed(0)
    for task, low in (("dark", 0), ("bright", 180)):
        x = torch.randint(low, low + 60, (40, *IMAGE.shape), generator=source, dtype=torch.uint8)
        data = TaskData(x, torch.arange(40) % 2, (f"{task} a", f"{task} b"))
        learned = load_memory(manifest, blobs).learn(
            data, task=task, terms=Terms(steps=steps), report=lambda p: None, device=CPU
        )
        manifest, blobs = manifest.commit(learned), {**blobs, **learned.blobs}
    return load_memory(manifest, blobs)


@pytest.fixture(scope="module")
def memory():
    return taught()


def images(expert, index=0):
    z = torch.randn(16, expert.noise_dim, generator=torch.Generator().manual_seed(2))
    return expert.generate(z, torch.full((16,), index))


def of_task(memory, index):
    task, entry = list(memory.manifest.experts())[index]
    return memory.expert(entry.digest), task.classes


def grey_levels(a, b):
    """How far two experts are apart, of 255, at most."""
    return 127.5 * (images(a) - images(b)).abs().max()


def test_both_ends_are_the_tasks_themselves_to_the_bit(memory):
    dark, classes = of_task(memory, 0)
    bright, _ = of_task(memory, 1)
    assert torch.equal(images(memory.blended(Blend("dark", "bright", 0.0))), images(dark))
    assert torch.equal(images(memory.blended(Blend("dark", "bright", 1.0))), images(bright))
    second = memory.blended(Blend("bright", "dark", 1.0, classes=(None, classes[1])))
    assert torch.equal(images(second), images(dark, 1)) and second.classes == (classes[1],)


def test_what_lies_between_is_between_and_the_same_every_time(memory):
    ends = [images(memory.blended(Blend("dark", "bright", weight))).mean() for weight in (0.0, 1.0)]
    middle = images(memory.blended(Blend("dark", "bright", 0.5)))
    assert torch.equal(middle, images(memory.blended(Blend("dark", "bright", 0.5))))
    memory.sides.clear()  # as a server that was not asked for any other blend
    assert torch.equal(middle, images(memory.blended(Blend("dark", "bright", 0.5))))
    assert ends[0] < ends[1] - 0.3, "the tasks are told apart at all"
    assert ends[0] < middle.mean() < ends[1]


@pytest.mark.parametrize("task", ["dark", "bright"])
def test_a_task_blended_with_itself_is_that_task(memory, task):
    own, _ = of_task(memory, memory.tasks.index(task))
    for weight in (0.3, 1.0):
        for groups in ((), ("scale",), ("bias",)):
            assert grey_levels(memory.blended(Blend(task, task, weight, groups)), own) < 0.01


@pytest.mark.parametrize("start", ["dark", ""])
def test_a_blend_hardly_differs_from_the_side_that_it_is_near_to(memory, start):
    near, far = (memory.blended(Blend(start, "bright", weight)) for weight in (0.0, 1.0))
    assert grey_levels(near, far) > 10
    layers = memory.foundation.layers
    for groups, chosen in (((), ()), (("scale",), ()), (("shift",), ()), (("bias",), ()), ((), layers[:1])):
        assert grey_levels(memory.blended(Blend(start, "bright", 1e-6, groups, chosen)), near) < 0.01
    assert grey_levels(memory.blended(Blend(start, "bright", 1 - 1e-6)), far) < 0.01


def test_the_base_is_a_start_and_each_switch_alone_changes_something(memory):
    base = images(memory.blended(Blend("", "bright", 0.0)))
    seen = [base]
    for groups, layers in ((("scale",), ()), (("shift",), ()), (("bias",), ()), ((), (memory.foundation.layers[0],))):
        switched = images(memory.blended(Blend("", "bright", 1.0, groups, layers)))
        assert not any(torch.allclose(switched, other) for other in seen)
        seen.append(switched)
    everything = memory.blended(Blend("", "bright", 1.0, ("scale", "shift", "bias"), memory.foundation.layers))
    assert torch.equal(images(everything), images(of_task(memory, 1)[0]))


@pytest.mark.parametrize("network", [name for name in ARCHITECTURES if name != "dcgan"])  # on which all else is tried
def test_styles_on_every_network_are_blended_and_switched_layer_by_layer(network):
    memory = taught(steps=10, bases=Shelf((random_base(network=network),)))
    dark, bright = (images(of_task(memory, index)[0]) for index in (0, 1))
    assert torch.equal(images(memory.blended(Blend("dark", "bright", 0.0))), dark)
    assert torch.equal(images(memory.blended(Blend("dark", "bright", 1.0))), bright)
    assert grey_levels(memory.blended(Blend("dark", "dark", 0.5)), of_task(memory, 0)[0]) < 0.01
    assert grey_levels(memory.blended(Blend("dark", "bright", 1 - 1e-6)), of_task(memory, 1)[0]) < 0.01
    seen = [dark, bright, images(memory.blended(Blend("dark", "bright", 0.5)))]
    seen += [images(memory.blended(Blend("dark", "bright", 1.0, (), (layer,)))) for layer in memory.foundation.layers]
    assert not any(torch.equal(a, b) for index, a in enumerate(seen) for b in seen[:index])
    assert {*memory.foundation.owners.values()} <= {*memory.foundation.layers}


@pytest.mark.parametrize(
    ("blend", "field"),
    [
        (Blend("night", "bright", 0.5), "start"),
        (Blend("dark", "", 0.5), "end"),
        (Blend("dark", "bright", 1.5), "weight"),
        (Blend("dark", "bright", 0.5, ("colour",)), "groups"),
        (Blend("dark", "bright", 0.5, (), ("attic",)), "layers"),
        (Blend("dark", "bright", 0.5, classes=("bright a", None)), "classes"),
    ],
)
def test_what_cannot_be_blended_is_refused_by_field(memory, blend, field):
    with pytest.raises(CannotBlend) as refused:
        memory.blended(blend)
    assert refused.value.field == field


def test_other_kinds_have_nothing_to_blend():
    memory = load_memory(new_manifest("dgmw", {"width": "4"}, IMAGE, 0), {})
    with pytest.raises(CannotBlend, match="gan_memory"):
        memory.blended(Blend("a", "b", 0.5))


@pytest.mark.parametrize("styles", ["full", "lowrank", "shared"])
def test_a_task_that_starts_from_its_nearest_says_so_and_cannot_outlive_it(styles, monkeypatch):
    began, wear = [], Foundation.wear

    def watched(foundation, network, style, weights):
        wear(foundation, network, style, weights)
        worn = modulations(network, foundation.sites)
        began.append({f"scale/{path}": each.scale().detach().clone() for path, each in worn.items()})
        assert any(map(len, weights.values())) == (styles == "shared")

    monkeypatch.setattr(Foundation, "wear", watched)
    memory = taught(steps=20, start="nearest", styles=styles)
    assert memory.manifest.tasks[0].reuses == () and memory.manifest.tasks[1].reuses == ("dark",)
    assert memory.manifest.dependents("dark") == ("bright",)
    assert not memory.side_by_side(memory.manifest.options)
    (first,) = began
    assert not all(torch.allclose(first[name], memory.foundation.style[name]) for name in first)
    assert all(torch.allclose(first[name], memory.styles[0][name], atol=1e-5) for name in first)
