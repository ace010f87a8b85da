"""The learner's classifier: the same network, steps and augmentation whatever it is fed with.

The augmentation is what a learner would do anyway: it changes no class, and blurs what tells one small generator from
another but not one class from another (per image: shift with repeated borders, blur, contrast and noise).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.training.batches import to_range

Batches = Iterator[tuple[Tensor, Tensor]]
"""Images in [-1, 1] and class indices, on the device."""

SMOOTHING = 0.05
FEWEST_STEPS = 10  # that a schedule can rise and fall in


@dataclass(frozen=True)
class Setting:
    """How the classifier of one data set is trained.

    Arguments:
        steps: of `batch` images.
        rate: largest learning rate of AdamW in a one-cycle schedule.
        shift: largest shift in pixels.
        flip: whether to mirror images from left to right.
        blur, contrast, noise: largest share of a 3 × 3 blur, change of contrast, and standard deviation of noise.
        network: one of `NETWORKS`.
    """

    steps: int
    batch: int
    rate: float
    shift: int
    flip: bool
    blur: float
    contrast: float
    noise: float
    network: str = "convolutional"


SETTINGS = {
    "digits": Setting(300, 128, 5e-3, 1, flip=False, blur=0.3, contrast=0.1, noise=0.1),
    "mnist": Setting(1000, 128, 5e-3, 2, flip=False, blur=1.0, contrast=0.1, noise=0.2),
    "cifar10": Setting(3000, 256, 3e-3, 4, flip=True, blur=0.3, contrast=0.2, noise=0.05, network="residual"),
    "cifar10-small": Setting(500, 128, 3e-3, 4, flip=True, blur=0.3, contrast=0.2, noise=0.05),
}


def train(
    batches: Batches, channels: int, classes: int, setting: Setting, seed: int, device: torch.device
) -> nn.Module:
    """A fresh classifier after `setting.steps` batches, in evaluation mode; the caller's random state is left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = NETWORKS[setting.network](channels, classes).to(device)
        network.to(memory_format=torch.channels_last).train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=setting.rate, weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=setting.rate, total_steps=max(setting.steps, FEWEST_STEPS), pct_start=0.2
        )
        for _, (x, y) in zip(range(setting.steps), batches, strict=False):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = network(augmented(x, setting).contiguous(memory_format=torch.channels_last))
                loss = F.cross_entropy(logits, y, label_smoothing=SMOOTHING)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


@torch.inference_mode()
def accuracy(network: nn.Module, x: Tensor, y: Tensor, batch: int = 1000) -> float:
    """Share of stored images (n, C, H, W) that are labelled correctly, in [0, 1]."""
    device = next(network.parameters()).device
    guesses = torch.cat([network(to_range(part.to(device))).argmax(dim=1).cpu() for part in x.split(batch)])
    return float((guesses == y).float().mean())


def augmented(x: Tensor, setting: Setting) -> Tensor:
    """The images as the classifier sees them in training, each changed in its own way."""
    if setting.flip:
        x = torch.where(_each(x) < 0.5, x, x.flip(-1))
    x = _shifted(x, setting.shift)
    x = torch.lerp(x, _blurred(x), setting.blur * _each(x))
    x = (x + 1) * (1 + setting.contrast * (2 * _each(x) - 1)) - 1
    return x + torch.randn_like(x) * (setting.noise * _each(x))


def convolutional(channels: int, classes: int) -> nn.Sequential:
    """Three convolutions, quick on one core."""
    return nn.Sequential(
        *_block(channels, 32, kernel=5, stride=2), *_block(32, 64), nn.MaxPool2d(2), *_block(64, 128),
        nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Dropout(0.3), nn.Linear(9 * 128, classes),
    )  # fmt: skip


def residual(channels: int, classes: int) -> nn.Sequential:
    """Nine layers with two residual blocks, for colour images and sized for a GPU."""
    return nn.Sequential(
        *_block(channels, 64), *_block(64, 128), nn.MaxPool2d(2), Residual(128), *_block(128, 256), nn.MaxPool2d(2),
        *_block(256, 512), nn.MaxPool2d(2), Residual(512), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(512, classes),
    )  # fmt: skip


NETWORKS = {"convolutional": convolutional, "residual": residual}


class Residual(nn.Module):
    """x + two convolutions of x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_block(width, width), *_block(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x + self.layers(x)


def _block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(outputs), nn.ReLU()


def _each(x: Tensor) -> Tensor:
    """One number in [0, 1) per image."""
    return torch.rand(len(x), 1, 1, 1, device=x.device)


def _shifted(x: Tensor, most: int) -> Tensor:
    """Each image moved by up to `most` pixels either way; what moves in repeats the border."""

    def places(extent: int) -> Tensor:
        by = torch.randint(-most, most + 1, (len(x), 1), device=x.device)
        return (torch.arange(extent, device=x.device) + by).clamp(0, extent - 1)

    rows, columns = places(x.shape[2])[:, :, None], places(x.shape[3])[:, None, :]
    images = torch.arange(len(x), device=x.device)[:, None, None]
    return x[images, :, rows, columns].permute(0, 3, 1, 2)


def _blurred(x: Tensor) -> Tensor:
    line = torch.tensor([0.25, 0.5, 0.25], device=x.device)
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])
