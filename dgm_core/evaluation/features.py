"""Features to measure distances in: what a small convolutional classifier of real images sees before its last layer.

Whoever measures trains the network on labelled real images of all classes, which no memory ever holds together: it
serves to report, never to choose anything that is trained (I8). Figures in two such spaces cannot be compared with each
other, nor with published ones in the space of an Inception network.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dgm_core.blobs import pack, unpack
from dgm_core.training.batches import BalancedBatches, to_range

BATCH = 128
LEARNING_RATE = 4e-3


class FeatureNetwork(nn.Module):
    """Three convolutions of widths f, 2f and 4f, each with norm, ReLU and pooling, the last over the whole image.

    Arguments:
        channels: of an image, 8 × 8 or larger.
        classes: that it was trained to tell apart.
        width: f; a feature vector has 4f entries.
    """

    def __init__(self, channels: int, classes: int, width: int = 32) -> None:
        super().__init__()
        self.about = {"channels": channels, "classes": classes, "width": width}
        self.layers = nn.Sequential(
            *_block(channels, width), nn.MaxPool2d(2),
            *_block(width, 2 * width), nn.MaxPool2d(2),
            *_block(2 * width, 4 * width), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.out = nn.Linear(4 * width, classes)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits for images in [-1, 1]."""
        logits: Tensor = self.out(self.layers(x))
        return logits

    @torch.inference_mode()
    def features(self, x: Tensor, batch: int = 500) -> Float[Tensor, "n features"]:
        """Features of images as they are stored, uint8 (n, C, H, W); call it in evaluation mode."""
        device = self.out.weight.device
        return torch.cat([self.layers(to_range(part.to(device))) for part in x.split(batch)])

    def pack(self) -> bytes:
        """The network as a blob, so that later measurements can be made in the same space."""
        return pack({name: tensor.cpu() for name, tensor in self.state_dict().items()}, self.about)

    @classmethod
    def unpack(cls, blob: bytes) -> "FeatureNetwork":
        """The inverse of `pack`, in evaluation mode. Raises ValueError for bytes that are no such blob."""
        tensors, about = unpack(blob)
        network = cls(**about)
        network.load_state_dict(tensors)
        return network.eval()


def train_features(
    x: Tensor, y: Int[Tensor, " n"], classes: int, seed: int, steps: int, width: int = 32
) -> FeatureNetwork:
    """A feature network trained on labelled real images: a function of them and the seed on one machine.

    Arguments:
        x: uint8 (n, C, H, W), on the device to train on.
        y: class indices; each of `classes` must occur.
        seed: of the network and of the order of the images; the caller's random state stays as it is.
        steps: of `BATCH` images, every class equally often.
        width: as in `FeatureNetwork`.

    Returns:
        the network in evaluation mode.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = FeatureNetwork(x.shape[1], classes, width).to(x.device).train()
        batches = BalancedBatches(x, y, classes)
        optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=LEARNING_RATE, total_steps=max(steps, 2))
        for _ in range(steps):
            images, labels = batches.draw(BATCH)
            loss = F.cross_entropy(network(images), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def _block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
