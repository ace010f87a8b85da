"""What a memory knows, as a data set whose items are batches."""

from collections.abc import Iterator, Sequence
from copy import copy, deepcopy
from typing import Any

import numpy as np
import torch
from memory_api.v1 import memory_pb2 as pb
from numpy.typing import DTypeLike, NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from memory_client import _decode
from memory_client._encode import class_labels, names, sample_format
from memory_client._requests import Classes
from memory_client._streaming import batches
from memory_client.errors import EmptyMemory, InvalidInput
from memory_client.memory import Memory
from memory_client.sampling import Course, Rebatcher
from memory_client.types import Label, Layout, MemoryInfo, Precision


class ReplayDataset(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches of synthetic examples, to be passed to `DataLoader(dataset, batch_size=None, num_workers=k)`.

    Workers, forked or spawned, each have a connection of their own. With a seed they share one stream: whatever k is,
    the loader gives the batches of `memory.stream(seed=...)` in their order, each once, and every pass over it gives
    the same ones. Without a seed every worker samples on its own and every pass is new; with n, there are n rows
    between the workers. Batches are balanced over the classes to ±1. Workers that are forked during an export, which
    cannot be broken off and begun anew as streams are, raise ForkedWhileStreaming.

    Making one asks the server once: classes, shape and, with a seed, the revision are fixed from then on. What is
    learned later is for another data set.

    Arguments:
        memory: it may be used elsewhere at the same time.
        classes: what to sample; None for all that the memory knows now.
        batch_size: rows of a batch, 1 to 65536.
        seed: makes the data set a function of its arguments.
        start_at: the first batch to give, counted from 0.
        stride: gives every stride-th batch from `start_at` on, divided between the workers: how the processes of one
            training share a seeded stream, each with its rank as `start_at`. Every batch is what it is without a
            stride.
        n: rows in total, counted from batch 0 and without a stride, the last batch holding what remains; None never
            ends.
        tasks: only what these tasks taught; None for all.
        revision: of the memory; None for the newest.
        dtype: of x, as for `memory.stream`, or as torch.dtype.
        layout, size: of images, as for `memory.stream`.
        precision: as for `memory.stream`.
        pin_memory: gives x in page-locked memory, where rows are written straight from the messages. For a loader
            without workers; with workers, let DataLoader pin.

    Attributes:
        classes: all that may occur, in the order that labels of a memory of strings index.
        shape: of one x as it is given: (C, H, W), (H, W, C) or (F,).

    Yields:
        x (n, *shape), and y (n,) int64: the label itself, or where labels are strings, which tensors
        cannot hold, its index in `dataset.classes`.

    Raises:
        EmptyMemory: nothing has been learned yet.
        InvalidInput: an argument is out of bounds; pin_memory without an accelerator.
        Otherwise as `memory.stream` does.
    """

    def __init__(
        self,
        memory: Memory,
        classes: Classes = None,
        batch_size: int = 128,
        *,
        seed: int | None = None,
        start_at: int = 0,
        stride: int = 1,
        n: int | None = None,
        tasks: str | Sequence[str] | None = None,
        revision: int | None = None,
        dtype: DTypeLike | torch.dtype | None = None,
        layout: Layout | None = None,
        size: tuple[int, int] | None = None,
        precision: Precision = "full",
        pin_memory: bool = False,
    ) -> None:
        if pin_memory and not torch.accelerator.is_available():
            raise InvalidInput("pin_memory is True, but torch finds no accelerator to copy to: leave it out")
        info = memory.describe()
        if not info.classes:
            raise EmptyMemory(f"memory {info.name!r} has learned nothing yet; teach it a task first")
        pinned = info.revision if revision is None and seed is not None else revision
        self._memory = memory
        self._pinned = pin_memory
        self.classes = _occurring(memory, info, classes, tasks)
        self._request = memory._requests.stream(
            *(batch_size, start_at, stride, n),
            # A pinned revision has the classes that it has; a stream that follows the newest one is held to these.
            classes=None if classes is None and pinned is not None else self.classes,
            seed=seed,
            tasks=tasks,
            revision=pinned,
            dtype=_name(dtype),
            layout=layout,
            size=size,
            precision=precision,
        )
        self.shape = _given(info.shape, self._request.format)

    def __len__(self) -> int:
        """Batches of one pass. Raises TypeError where n is not given."""
        count = Course.of(self._request).batches
        if count is None:
            raise TypeError("a ReplayDataset without n has no end, and so no length")
        return count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        if worker is not None and self._pinned:
            raise InvalidInput(
                "pin_memory is for a loader without workers: pass pin_memory=True to the DataLoader instead"
            )
        request = self._request if worker is None else share(self._request, worker.id, worker.num_workers)
        if Course.of(request).batches == 0:
            return
        rebatcher = Rebatcher.of_sample(request, _page_locked) if self._pinned else Rebatcher.of_sample(request)
        with batches(self._memory._connection, request, rebatcher) as stream:
            for x, y in stream:
                yield _tensor(x), torch.from_numpy(self._indices(y))

    def varied(self, batch_size: int, seed: int | None, dtype: torch.dtype) -> "ReplayDataset":
        """The same classes and revision in other batches; asks nobody."""
        other = copy(self)
        other._request = deepcopy(self._request)
        other._request.batch_size = batch_size
        other._request.format.dtype = sample_format(_name(dtype), None, None).dtype
        if seed is not None:
            other._request.seed = seed
        return other

    def _indices(self, y: NDArray[Any]) -> NDArray[np.int64]:
        if y.dtype.kind == "i":
            return y
        known = np.asarray(self.classes)
        order = np.argsort(known)
        return order[np.searchsorted(known, y, sorter=order)]


def share(request: pb.SampleRequest, worker: int, workers: int) -> pb.SampleRequest:
    """What one of several workers asks for, so that they have all that is requested between them, and nothing twice.

    A loader takes from its workers in turn: with a seed, worker w of k has what is requested of batches w, w + k, ...
    and the loader's order is that of the stream. Without one order means nothing, and each has a run of consecutive
    batches: those that are computed together are asked for together.
    """
    own, whole = deepcopy(request), Course.of(request)
    if request.HasField("seed"):
        own.start_at, own.stride = whole.first + worker * whole.stride, workers * whole.stride
    elif whole.batches is None:
        own.start_at = whole.first + worker * whole.stride  # so that small batches differ in their classes
    else:
        places = (whole.batches * index // workers for index in (worker, worker + 1))
        first, end = (whole.first + place * whole.stride for place in places)
        own.start_at, own.n = first, min(request.n, end * whole.batch_size)
    return own


def _occurring(
    memory: Memory, info: MemoryInfo, classes: Classes, tasks: str | Sequence[str] | None
) -> tuple[Label, ...]:
    """The classes that may occur: those that are named, else those of the tasks that are, else all."""
    if classes is not None:
        return _decode.labels(class_labels(classes))
    if tasks is None:
        return info.classes
    wanted = names(tasks, "tasks")
    taught = {label for task in memory.tasks() if task.name in wanted for label in task.classes}
    return tuple(label for label in info.classes if label in taught) or info.classes


def _given(shape: tuple[int, ...], form: pb.Format) -> tuple[int, ...]:
    """The shape of one x in a format."""
    if len(shape) != 3:  # the server refuses to give vectors so
        return shape
    channels, height, width = shape[0], form.height or shape[1], form.width or shape[2]
    return (height, width, channels) if form.layout == pb.NHWC else (channels, height, width)


def _name(dtype: DTypeLike | torch.dtype | None) -> DTypeLike | None:
    """A dtype as NumPy knows it."""
    return str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else dtype


class _PageLocked(np.ndarray[Any, Any]):
    """The elements of a tensor that torch has made in page-locked memory.

    Torch takes that memory back, for the next one, when nobody holds the tensor any more and every copy of it to a
    device has been made. It knows of copies of that tensor and of parts of it, but not of all parts of another tensor
    over the same memory: so that very one is handed out.
    """

    tensor: Tensor


def _page_locked(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> _PageLocked:
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    tensor = torch.empty(shape, dtype=kind, pin_memory=True)
    array = tensor.numpy().view(_PageLocked)
    array.tensor = tensor
    return array


def _tensor(x: NDArray[Any]) -> Tensor:
    """The tensor of an array's elements: the one that they were made in, if there is one."""
    return x.tensor if isinstance(x, _PageLocked) else torch.from_numpy(x)
