"""A device that computes nothing, yet is not the processor: what trains and samples on it shows where tensors of two
devices meet, and how often the host waits for the device, without there being one.

It changes torch for good: its functions are for a process of their own.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import TypeVar
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration

from dgm_core.bundles import Bundle
from dgm_core.checkpoints import NONE
from dgm_core.experts import FrozenExpert
from dgm_core.manifest import DataSpec
from dgm_core.masking.masked import MaskedGenerator
from dgm_core.memories import gan_memory, load_memory, masked, new_manifest, retrained
from dgm_core.memories.dual import DualMemory
from dgm_core.memory import TaskData, Terms
from dgm_core.networks import architecture_of
from dgm_core.precision import ReducedExpert
from dgm_core.solvers import ClassifierSolver
from dgm_core.style.library import SHIPPED
from dgm_core.training import running, trainees
from dgm_core.training.classifying import Pool, train_classifier
from dgm_core.training.clock import Clock
from dgm_core.training.running import Run
from memory_server.sampling.formats import Form

T = TypeVar("T")

aten = torch.ops.aten
_READS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.bincount.default, aten._unique2.default)
"""What the host cannot know before the device is done."""

EXAMPLES = 40


@cache
def device() -> torch.device:
    """The device, which is made when this is first called."""

    class Module(backend_registration._DummyBackendModule):
        def get_amp_supported_dtype(self):
            return [torch.bfloat16]

    backend_registration._setup_privateuseone_for_python_backend("elsewhere", Module())
    nn.Module._apply = _moved
    return torch.device("elsewhere", 0)


def _moved(module: nn.Module, change, recurse: bool = True) -> nn.Module:
    """In place of `Module._apply`, which cannot give a parameter the place of one on the processor."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None:
                with torch.no_grad():
                    part._parameters[name] = nn.Parameter(change(p), p.requires_grad)
        for name, t in part._buffers.items():
            if t is not None:
                part._buffers[name] = change(t)
    return module


class Elsewhere(FakeTensorMode):
    """Within it tensors have shape, dtype and device, and no values: what is read of them is 1.

    Attributes:
        waits: how often the host waited for the device, or the device for the host.
    """

    avoid_device_init = True  # constants go to the device without being computed there

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.waits = 0

    def dispatch(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        self._check_generator(func, first, kwargs)
        self.waits += self._waits(func, first, args, kwargs)
        if func in _READS:
            return self._read(func, first, args, kwargs)
        return super().dispatch(func, types, args, kwargs)

    def _waits(self, func, first, args, kwargs) -> bool:
        if func is aten._to_copy.default:
            return torch.device(kwargs.get("device") or first.device).type != first.device.type
        if func is aten.copy_.default:
            return args[1].device.type != first.device.type
        return func in _READS and first.device.type == device().type

    def _read(self, func, first, args, kwargs):
        if func is aten._local_scalar_dense.default:
            known = getattr(first, "constant", None)
            return known.item() if known is not None else torch.ones((), dtype=first.dtype).item()
        with self:
            if func is aten.nonzero.default:
                return torch.zeros(first.numel(), first.dim(), dtype=torch.int64, device=first.device)
            if func is aten.bincount.default:
                return torch.ones(kwargs.get("minlength") or args[2], dtype=torch.int64, device=first.device)
            index = torch.zeros(first.numel(), dtype=torch.int64, device=first.device)
            return first.clone(), index, index

    def _check_generator(self, func, first, kwargs) -> None:
        """As a device does, which has sources of randomness of its own."""
        if (source := kwargs.get("generator")) is not None:
            where = torch.device(kwargs.get("device") or ("cpu" if first is None else first.device))
            if where.type != source.device.type:
                raise RuntimeError(f"Expected a '{where.type}' device type for generator but found '{source.device}'")


def told(function: Callable[..., T], *arguments: object) -> T:
    """What a function gives; its error in words, for torch's own cannot leave the process."""
    try:
        return function(*arguments)
    except Exception:
        raise RuntimeError(traceback.format_exc()) from None


def waits_of_training(kind: str, options: dict[str, str], shape: tuple[int, ...], steps: int) -> int:
    """How often a training waits in all its steps but the first ones, which measure how long a step takes."""
    spec = DataSpec(shape, "uint8" if len(shape) == 3 else "float32")
    where = device()
    clock = Clock(lambda progress: None, now=lambda: 0.0)  # never due, so that nothing is reported between
    manifest = new_manifest(kind, options, spec, 0)
    memory = load_memory(manifest, dict([SHIPPED.find(manifest.base, spec)]) if manifest.base else {})
    with Elsewhere() as mode, _counting(mode) as counted:
        real = TaskData(*_examples(spec), (0, 1))
        if isinstance(memory, DualMemory):
            memory.short.fit(real, None, steps, clock, where, NONE)  # what it does besides is to choose examples
        else:
            memory.trained(real, "t0", Terms(), steps, clock, where, NONE)
    assert counted.runs == 1
    return counted.waits


def waits_of_a_classifier(shape: tuple[int, ...], steps: int) -> int:
    """Likewise of the task solver, from beginning to end; it answers on the device, too."""
    spec = DataSpec(shape, "uint8" if len(shape) == 3 else "float32")
    device()
    with Elsewhere() as mode:
        x, y = _examples(spec)
        network = train_classifier(spec, 2, [Pool(x, y)], steps, lambda taken: taken)
        waits = mode.waits
        assert ClassifierSolver(spec, network, (0, 1)).probabilities(x).device == device()
    return waits


def sampled(network: str, shape: tuple[int, ...]) -> None:
    """A pass of one expert, of several together, of one in reduced precision, and rows on their way to a reader."""
    spec = DataSpec(shape, "uint8" if len(shape) == 3 else "float32")
    architecture = architecture_of(network, spec, 8)
    experts = []
    for seed in range(2):
        torch.manual_seed(seed)
        plain = architecture.generator(architecture.initial_widths(4), 2).eval()
        experts.append(FrozenExpert(plain.folded(), (0, 1), 8))
    z, c = np.zeros((2, 5, 8), np.float32), np.zeros((2, 5), np.int64)
    where = device()
    with Elsewhere():
        there = [expert.to(where) for expert in experts]
        noise, classes = torch.from_numpy(z).to(where), torch.from_numpy(c).to(where)
        made = [
            there[0].generate(noise[0], classes[0]),
            Bundle(there).generate(noise, classes)[0],
            ReducedExpert(there[0]).generate(noise[0], classes[0]),
        ]
        forms = [Form(shape, "float32")]
        if spec.is_image:
            forms += [Form(shape, "uint8", "NHWC", (9, 7)), Form(shape, "float16", "NCHW")]
        for x in made:
            assert x.device == where and tuple(x.shape) == (5, *shape)
            assert [tuple(form.of(x).shape[1:]) for form in forms] == [form.shape for form in forms]


def read_in_a_step() -> int:
    """How often the host waits when it reads a value once."""
    where = device()
    with Elsewhere() as mode:
        assert float(torch.zeros(3, device=where).sum()) == 1.0
    return mode.waits


def mixed_devices() -> None:
    """What must fail."""
    where = device()
    with Elsewhere():
        torch.zeros(3, device=where) + torch.zeros(3)


def randomness_from_the_processor() -> None:
    """What must fail."""
    where = device()
    with Elsewhere():
        torch.randn(3, generator=torch.Generator(), device=where)


def _examples(spec: DataSpec):
    dtype = torch.uint8 if spec.is_image else torch.float32
    x = torch.zeros(EXAMPLES, *spec.shape, dtype=dtype, device=device())
    return x, torch.zeros(EXAMPLES, dtype=torch.int64, device=device())


@contextmanager
def _counting(mode: Elsewhere) -> Iterator[SimpleNamespace]:
    """Counts where training goes on; what needs values, such as files, is left out."""
    counted = SimpleNamespace(runs=0, waits=0)
    go_on = Run.go_on

    def counting(run: Run) -> None:
        before = mode.waits
        go_on(run)
        counted.runs, counted.waits = counted.runs + 1, counted.waits + mode.waits - before

    with (
        patch.object(Run, "go_on", counting),
        patch.object(Run, "_record", lambda run, at: None),  # at most sixty points of a whole training
        patch.object(running, "PROBE_STEPS", 2),
        patch.object(trainees, "PROBE_STEPS", 2),
        patch.object(running, "NORM_BATCHES", 2),
        patch.object(MaskedGenerator, "settle", lambda g: 0),  # counts what moved, which is said to be 1
        patch.object(masked.MaskedMemory, "_blob", lambda *_: b""),
        patch.object(gan_memory, "pack", lambda *_: b""),
        patch.object(retrained, "pack", lambda *_: b""),
    ):
        yield counted
