"""Training of a base on public data: every weight is free, and the classes only help the discriminator to see more."""

import platform
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dgm_core.errors import CannotLearn
from dgm_core.manifest import DataSpec
from dgm_core.memory import Report, TaskData
from dgm_core.networks import architecture_of
from dgm_core.networks.architecture import Embedded
from dgm_core.precision import has_bfloat16
from dgm_core.style.base import Base, Design
from dgm_core.training.adversarial import train_generator
from dgm_core.training.batches import BalancedBatches
from dgm_core.training.clock import Clock
from dgm_core.training.devices import placed
from dgm_core.training.recipes import BASE
from dgm_core.training.trainees import Free

_WHOLE = {"generator": 1.0}
"""A base has no task, hence neither a quality nor a solver: all the time is the generator's."""


def design_of(spec: DataSpec, network: str, width: int, noise: int) -> Design:
    """The design of a base for such data.

    Arguments:
        network: name of the architecture.
        width: f of the generator's widths, and the width of the discriminator's first layer.
        noise: length of z.
    """
    if not spec.is_image:
        raise CannotLearn("spec.shape", f"a base generates images (C, H, W), not x of shape {spec.shape}")
    widths = architecture_of(network, spec, noise).initial_widths(width)
    return Design(network, spec.shape, noise, tuple(widths), BASE.kernel, width)


def train_base(
    data: TaskData,
    design: Design,
    *,
    name: str,
    steps: int,
    seconds: float | None,
    seed: int,
    source: Mapping[str, Any],
    report: Report,
    device: torch.device,
) -> Base:
    """Trains a base; what its first layer had learned of single classes becomes one bias, their mean.

    Arguments:
        data: public images; is left where it is.
        steps, seconds: whichever ends first; a limit in seconds walks through the same schedule in fewer steps.
        source: what the data is, for the file.

    Raises:
        TrainingDiverged: a loss became NaN or infinite.
        Cancelled: as raised by `report`.
    """
    clock = Clock(report, seconds, _WHOLE)
    spec = DataSpec(tuple(data.x.shape[1:]), "uint8")
    classes = len(data.classes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        g, d = design.generator(spec, classes), design.discriminator(spec, classes)
        placed(g, device)
        placed(d, device)
        batches = BalancedBatches(data.x.to(device), data.y.to(device), classes)
        trained = train_generator(Free(g), d, batches, BASE, design.noise, steps, clock)
    single = design.generator(spec, 1)
    single.load_state_dict(_of_one_class(g.cpu(), design.noise))
    about = {**source, "examples": len(data), "classes": classes, "steps": trained.steps, "seed": seed}
    return Base.of(name, design, single, d.cpu(), about | _computed(device))


def _computed(device: torch.device) -> dict[str, Any]:
    """What else decides about the bytes of what is trained: the same of all this gives the same ones."""
    cuda = device.type == "cuda"
    return {
        "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "precision": "bfloat16" if BASE.half and has_bfloat16(device) else "float32",
    }


def _of_one_class(g: Embedded, noise: int) -> dict[str, Tensor]:
    """The state of a generator with the columns of its classes replaced by their mean."""
    state = g.state_dict()
    first = next(c for c in g.topology.connections if c.reads is None)
    z, columns = state[first.name].split([noise, g.embedding.num_embeddings], dim=first.in_axis)
    state[first.name] = torch.cat([z, columns.mean(first.in_axis, keepdim=True)], dim=first.in_axis)
    state["embedding.weight"] = torch.ones(1, 1)
    return state
