"""Classifiers: the task solver of a memory and the judge of reverse accuracy."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from jaxtyping import Float
from torch import Tensor, nn

from dgm_core.manifest import DataSpec

IMAGE_WIDTHS = (32, 64)
VECTOR_WIDTH = 128


class Classifier(nn.Module):
    """Logits over classes for images in [-1, 1], or vectors of any scale, which the first layer standardises.

    Arguments:
        spec: of one example.
        classes: how many.
        hidden: widths of the linear layers that it shall consist of, ReLU between them; none: what suits the data.
    """

    def __init__(self, spec: DataSpec, classes: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        self.hidden = tuple(hidden)
        if hidden:
            self.layers = _linear_layers(spec, classes, hidden)
        else:
            self.layers = _image_layers(spec, classes) if spec.is_image else _vector_layers(spec, classes)

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        logits: Tensor = self.layers(x)
        return logits


def _image_layers(spec: DataSpec, classes: int) -> nn.Sequential:
    channels = spec.shape[0]
    layers: list[nn.Module] = []
    for width in IMAGE_WIDTHS:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.25), nn.Linear(16 * channels, classes)
    )


def _vector_layers(spec: DataSpec, classes: int) -> nn.Sequential:
    (features,) = spec.shape
    return nn.Sequential(
        nn.BatchNorm1d(features),
        nn.Linear(features, VECTOR_WIDTH),
        nn.BatchNorm1d(VECTOR_WIDTH),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(VECTOR_WIDTH, classes),
    )


def _linear_layers(spec: DataSpec, classes: int, hidden: Sequence[int]) -> nn.Sequential:
    # A mean over all batches is that of the data after a few steps already, however far off that is.
    standard = nn.BatchNorm1d(prod(spec.shape), eps=1e-12, momentum=None, affine=False)
    layers: list[nn.Module] = [nn.Flatten() if spec.is_image else standard]
    for inputs, outputs in pairwise([prod(spec.shape), *hidden]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], classes))
