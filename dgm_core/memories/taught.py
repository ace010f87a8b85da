"""What all kinds with one expert per task have in common; not a kind itself.

A task becomes a blob; its expert is derived from blobs alone, when it is learned as well as whenever it is loaded, so
that there is only one way to the bytes that are sampled. What differs is how a blob is trained and what it means.

    blob, trained = memory.trained(...)            of the memory as it is
    successor                                      another memory of the same manifest, which then takes the blob in:
    successor.append(blob, task)
    expert        = successor.materialised(...)    `revised`, `reuses` and `analysis` are asked of the successor, too
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import torch

from dgm_core.analysis import Analysis
from dgm_core.blobs import digest as digest_of
from dgm_core.checkpoints import NONE, Checkpoints
from dgm_core.errors import CannotLearn
from dgm_core.experts import FrozenExpert
from dgm_core.lesson import Lesson
from dgm_core.manifest import Blobs, DataSpec, ExpertEntry, Label, Learned, Manifest, Shared, TaskEntry
from dgm_core.memory import Bases, Expert, GenerativeMemory, Report, Solver, TaskData, Terms
from dgm_core.options import Options
from dgm_core.replay import Load
from dgm_core.solvers import ClassifierSolver, Restricted
from dgm_core.training.batches import split
from dgm_core.training.clock import FEWEST_STEPS, SHARES, Clock, limit_of
from dgm_core.training.recipes import Recipe
from dgm_core.training.running import Trained

HELD_OUT = 0.1
FEWEST_EXAMPLES = 8


class TaughtMemory(GenerativeMemory):
    """A memory whose every task is a blob and an expert.

    A kind restores what its experts are derived from itself: the last thing that its `__init__` does is to `append`
    what it needs of the blobs of `manifest.tasks`, in their order. Most need all of them.

    Attributes:
        parsed: what its options are read by.
        recipes: how a task is trained, by name; one of them is "fast". `steps`, `seconds`, `classifier_steps` and
            `replay` are read here, the rest by what trains the generator.
        shares: of the time of a task that its phases take, in their order; "solver" is one of them.
        consolidated: whether the blob of a task is that of all tasks, from its first revision on.
        chosen: the memory's options.
        recipe: the one of `recipes` that was chosen.
    """

    parsed: ClassVar[type[Options]] = Options
    recipes: ClassVar[Mapping[str, Recipe]]
    shares: ClassVar[Mapping[str, float]] = SHARES
    consolidated: ClassVar[bool] = False
    chosen: Options
    recipe: Recipe

    def __init__(self, manifest: Manifest, blobs: Blobs) -> None:
        self.manifest, self.blobs = manifest, blobs
        self.chosen = self.parsed.parse(manifest.options)
        self.recipe = self.recipe_of(self.chosen.recipe)

    @classmethod
    def options(cls, given: Mapping[str, str], spec: DataSpec, bases: Bases) -> dict[str, str]:  # noqa: ARG003
        """See `GenerativeMemory.options`: those of `parsed`, whatever the data."""
        options = cls.parsed.parse(given)
        cls.recipe_of(options.recipe)
        return options.text()

    @abstractmethod
    def append(self, blob: bytes, task: str) -> None:
        """Takes in the blob of the next task: one of the manifest, or the newest, which is not in the manifest yet."""

    @abstractmethod
    def trained(
        self,
        real: TaskData,
        task: str,
        terms: Terms,
        steps: int,
        clock: Clock,
        device: torch.device,
        checkpoints: Checkpoints,
    ) -> tuple[bytes, Trained]:
        """Trains the generator of the next task on what is not held out; returns its blob.

        The default sources of randomness are seeded with `seed_of`, and put back afterwards.

        Arguments:
            real: on `device`; x as it is stored, uint8 images or float32 vectors in their own scale. `to_range` makes
                of it what networks take and generate: images in [-1, 1].
            task: its name.
            terms: as the caller gave them.
            steps: of the terms, or else of the recipe.
            clock: has the phases of `shares`. To be told of every step by `tick`, or asked for it by `position` or
                `pace`, which keep the limit in seconds: that is how progress is reported, and a task cancelled. Where
                nothing is descended one `tick` of the generator's phase at its beginning and one at its end will do.
            device: where to train.
            checkpoints: where the state is put down between steps, and that of an earlier attempt found, as
                `training.running.Run` does it. Nothing is put down where nothing is descended.

        Returns:
            The blob, of tensors on the CPU (see `blobs.pack`), and what is known of the training: `Trained()`, that is
            no steps, where nothing was descended.

        Raises:
            TrainingDiverged: nothing is worth keeping.
            Cancelled: as raised by `clock` or `checkpoints`.
        """

    @abstractmethod
    def materialised(self, index: int, classes: tuple[Label, ...]) -> FrozenExpert:
        """The expert of the task that was taken in as number `index`, on the CPU; the same one whenever it is asked."""

    @abstractmethod
    def seed_of(self, task: str) -> int:
        """What drives the training of the next task, of that name.

        It hangs on all that the training depends on and on nothing else (see `mix`): on the name alone in a kind whose
        tasks know nothing of each other.
        """

    def reuses(self) -> tuple[str, ...]:
        """The tasks of the manifest on which the newest one stands, so that they cannot be forgotten before it: none.

        Asked of the successor, whose newest task is not in the manifest yet. What `TaskEntry.consolidated` says is not
        to be said here.
        """
        return ()

    def analysis(self, trained: Trained, blob: bytes) -> Analysis | None:  # noqa: ARG002 - for kinds with such parts
        """What was measured of the newest task, or None where no part of a generator is its own.

        Asked of the successor.

        Arguments:
            trained: what `trained` has returned.
            blob: likewise.
        """
        return None

    def counted(self, data: TaskData) -> tuple[int, int]:
        """Examples and classes from which the recipe counts the steps of a task: its own; kinds that replay add to it.

        Arguments:
            data: of the task, what is held out included.
        """
        return len(data), len(data.classes)

    def revised(self, blob: str) -> tuple[TaskEntry, ...]:  # noqa: ARG002 - for the kinds that retrain
        """The entries of the manifest's tasks, all of them, once the newest blob holds them, too; none: it does not.

        Asked of the successor.

        Arguments:
            blob: its digest.
        """
        return ()

    def taught_solver(
        self,
        lesson: Lesson,
        experts: Sequence[ExpertEntry],
        real: TaskData,  # noqa: ARG002 - for kinds whose solver is defined by it
    ) -> tuple[ClassifierSolver, ClassifierSolver]:
        """The task solver after a task, and who judges samples: the same, since it sees nothing else.

        Arguments:
            experts: of all tasks, the new one included.
            real: of the new task.
        """
        solver = lesson.solver(experts)
        return solver, solver

    def entry_of(self, index: int, classes: tuple[Label, ...], examples: tuple[int, ...]) -> ExpertEntry:
        """The entry of the expert of one task."""
        return ExpertEntry(self.materialised(index, classes).digest, classes, examples)

    def expert(self, digest: str) -> Expert:
        """Materialises one expert of the manifest, on the CPU."""
        for index, task in enumerate(self.manifest.tasks):
            for entry in task.experts:
                if entry.digest == digest:
                    return _verified(self.materialised(index, entry.classes), task.task, digest)
        raise KeyError(f"no expert of this revision has the digest {digest}")

    def solver(self, task: str | None = None) -> Solver:
        """The task solver of this revision."""
        solver = ClassifierSolver.unpack(self.manifest.spec, self.blobs[self.manifest.shared["solver"]])
        return solver if task is None else Restricted(solver, self.manifest.entry(task).classes)

    def learn(
        self,
        data: TaskData,
        *,
        task: str,
        terms: Terms,
        report: Report,
        device: torch.device,
        checkpoints: Checkpoints = NONE,
    ) -> Learned:
        """Trains on one task and returns what must be kept of it."""
        self._check(data, terms)
        clock = Clock(report, limit_of(terms.seconds, self.recipe.seconds), self.shares)
        data = TaskData(data.x.to(device), data.y.to(device), data.classes)
        seed = self.seed_of(task)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            real, held_out = split(data, HELD_OUT, torch.Generator().manual_seed(seed))
            steps = terms.steps or self.recipe.steps(*self.counted(data))
            blob, trained = self.trained(real, task, terms, steps, clock, device, checkpoints)
            successor = self._successor(blob, task)
            counts = tuple(torch.bincount(real.y, minlength=len(real.classes)).tolist())
            entry = successor.entry_of(len(self.manifest.tasks), data.classes, counts)
            revised = successor.revised(digest_of(blob))
            heads = tuple(dict.fromkeys([*self.manifest.classes, *data.classes]))
            lesson = self._lesson(heads, self._loader(successor, entry, revised), steps, seed, clock, device)
            held = [each for known in revised or self.manifest.tasks for each in known.experts]
            taught, judge = self.taught_solver(lesson, [*held, entry], real)
            quality = lesson.quality(judge, held_out, terms.min_quality)
            solver = taught.pack()
        learned = TaskEntry(
            task=task,
            blob=digest_of(blob),
            experts=(entry,),
            quality=quality,
            steps=trained.steps,
            seconds=round(clock.seconds, 3),
            erasable=terms.erasable,
            consolidated=self.consolidated,
            reuses=successor.reuses(),
            analysis=successor.analysis(trained, blob) or {},
        )
        blobs = {digest_of(blob): blob, digest_of(solver): solver}
        return Learned(learned, {"solver": digest_of(solver)}, blobs, self.manifest.revision, revised)

    def restore(self, *, report: Report, device: torch.device) -> Shared:
        """Trains the solver anew, on samples of every task that is left."""
        seed = mix(self.chosen.seed, self.manifest.revision, "restoring")
        clock = Clock(report, self.recipe.seconds, {"solver": 1.0})
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            solver = self.solver_anew(seed, clock, device)
        return Shared({"solver": digest_of(solver)}, {digest_of(solver): solver})

    def solver_anew(self, seed: int, clock: Clock, device: torch.device) -> bytes:
        """The blob of a solver that is trained on samples of every task of this revision."""
        steps = self.recipe.classifier_steps
        lesson = self._lesson(self.manifest.classes, lambda e: self.expert(e.digest), steps, seed, clock, device)
        return lesson.solver([each for _, each in self.manifest.experts()]).pack()

    @classmethod
    def recipe_of(cls, name: str) -> Recipe:
        """The recipe of that name. Raises CannotLearn with the known ones."""
        try:
            return cls.recipes[name]
        except KeyError:
            raise CannotLearn(
                "options.recipe", f"there is no recipe {name!r}; the recipes are {', '.join(cls.recipes)}"
            ) from None

    def _lesson(
        self, heads: tuple[Label, ...], load: Load, steps: int, seed: int, clock: Clock, device: torch.device
    ) -> Lesson:
        steps = min(self.recipe.classifier_steps, max(steps, FEWEST_STEPS))
        return Lesson(self.manifest.spec, heads, load, steps, self.recipe.replay, seed, clock, device)

    def _successor(self, blob: bytes, task: str) -> Self:
        """This memory with one more task blob, not yet in any manifest."""
        memory = type(self)(self.manifest, self.blobs)
        memory.append(blob, task)
        return memory

    def _loader(self, successor: Self, entry: ExpertEntry, revised: Sequence[TaskEntry]) -> Load:
        """Materialises the experts of this manifest, and those that the newest blob has brought."""
        new = {each.digest: index for index, known in enumerate(revised) for each in known.experts}
        new[entry.digest] = len(self.manifest.tasks)
        return lambda e: successor.materialised(new[e.digest], e.classes) if e.digest in new else self.expert(e.digest)

    def _check(self, data: TaskData, terms: Terms) -> None:
        spec = self.manifest.spec
        if terms.revises and not self.repeats:
            raise CannotLearn(
                "terms.revises",
                f"a memory of kind {self.kind} does not repeat tasks, so revises={terms.revises!r} has no meaning; "
                "leave it empty: classes that are taught again have one more expert each",
            )
        if tuple(data.x.shape[1:]) != spec.shape:
            raise CannotLearn("spec.shape", f"this memory holds x of shape {spec.shape}, not {tuple(data.x.shape[1:])}")
        counts = torch.bincount(data.y, minlength=len(data.classes)).tolist()
        for label, count in zip(data.classes, counts, strict=True):
            if count < FEWEST_EXAMPLES:
                raise CannotLearn(
                    "count",
                    f"class {label!r} has {count} examples, but at least {FEWEST_EXAMPLES} are needed to learn it",
                )


def mix(*parts: object) -> int:
    """One 63-bit seed from several values, the same on every machine."""
    return int(digest_of(repr(parts).encode())[:15], 16)


def _verified(expert: FrozenExpert, task: str, digest: str) -> FrozenExpert:
    if expert.digest != digest:
        raise ValueError(
            f"the expert of task {task} has the digest {expert.digest}, but the catalog says {digest}: "
            "a blob was changed, or this version compiles experts, or its torch computes, differently from the one "
            "that learned it: go back to that version"
        )
    return expert
