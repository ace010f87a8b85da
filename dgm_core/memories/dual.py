"""`dual`: short-term memories of single tasks, and a long-term one that takes them over in sleep (Kamra et al. 2018).

Every task becomes a small deep generative memory of its own, which can be sampled and asked at once. After so many
tasks the memory is drowsy: in sleep the short-term memories dream up examples, and the long-term memory learns from
them and from what it dreams itself, within a budget. Its knowledge fades little by little and never at once, and it
cannot be taken apart again  [DGDMN sec. 3.2].
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

import torch

from dgm_core.blobs import digest as digest_of
from dgm_core.checkpoints import Checkpoints
from dgm_core.dual.budget import UNBOUNDED, Budget
from dgm_core.dual.learners import LearnerRecipe, published
from dgm_core.dual.memory import DeepGenerativeMemory, joined
from dgm_core.dual.options import GENERATORS, PUBLISHED, DualOptions, halved
from dgm_core.dual.replay import News, Replay, Steps
from dgm_core.errors import CannotLearn, CannotSleep
from dgm_core.experts import FrozenExpert
from dgm_core.generative.model import Maker
from dgm_core.manifest import Blobs, DataSpec, ExpertEntry, Label, Manifest, Shared, TaskEntry
from dgm_core.memories.taught import TaughtMemory, mix
from dgm_core.memory import Bases, Report, Solver, TaskData, Terms
from dgm_core.networks import AUTOMATIC, architecture_of
from dgm_core.solvers import Restricted
from dgm_core.training.clock import Clock
from dgm_core.training.recipes import DUAL, DUAL_PAPER
from dgm_core.training.running import Trained

SLEEP = {"generator": 0.8, "learner": 0.08, "solver": 0.12}
"""Shares of the phases of a sleep."""


class DualMemory(TaughtMemory):
    """Short-term memories, one for each task, and a long-term one."""

    kind = "dual"
    exact = False
    sleeps = True
    repeats = True
    recipes = MappingProxyType({"fast": DUAL, "paper": DUAL_PAPER})
    shares = MappingProxyType({"generator": 0.78, "learner": 0.06, "solver": 0.16})
    parsed: ClassVar[type[DualOptions]] = DualOptions
    chosen: DualOptions

    @classmethod
    def options(cls, given: Mapping[str, str], spec: DataSpec, bases: Bases) -> dict[str, str]:  # noqa: ARG003
        """All options as text, defaults included."""
        options = cls.parsed.parse(given)
        recipe = cls.recipe_of(options.recipe)
        width = options.width or recipe.width
        automatic = GENERATORS[options.generator].network(spec)
        learner = given.get("learner", PUBLISHED if options.recipe == "paper" else "")
        complete = replace(
            options,
            network=automatic if options.network == AUTOMATIC else options.network,
            width=width,
            short_width=options.short_width or max(1, width // 2),
            noise=options.noise or recipe.noise,
            learner=learner,
            short_learner=given.get("short_learner", halved(learner)),
        )
        architecture_of(complete.network, spec, complete.noise)  # is refused if it does not suit such data
        return complete.text()

    @classmethod
    def drowsy(cls, manifest: Manifest) -> bool:
        """Whether short-term memory is full."""
        return len(cls.awake(manifest)) >= cls.parsed.parse(manifest.options).short_term

    def __init__(self, manifest: Manifest, blobs: Blobs) -> None:
        super().__init__(manifest, blobs)
        sort = GENERATORS[self.chosen.generator]
        self.recipe = sort.recipe(self.chosen, self.recipe)
        self.short = sort.make(manifest.spec, self.chosen, self.recipe, self.chosen.short_width)
        self.long = sort.make(manifest.spec, self.chosen, self.recipe, self.chosen.width)
        self._loaded: dict[str, DeepGenerativeMemory] = {}
        self._newest = b""

    def append(self, blob: bytes, task: str) -> None:  # noqa: ARG002 - it says so itself
        """See `TaughtMemory.append`."""
        self._newest = blob

    def seed_of(self, task: str) -> int:
        """From the memory's seed and the task's name alone: a short-term memory knows of no other task."""
        return mix(self.chosen.seed, task, "short-term")

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
        """See `TaughtMemory.trained`.

        A task that repeats one in short-term memory goes on from that one's memory, and replays it; to one that is in
        long-term memory, that adds examples of its own  [DGDMN sec. 3.2].
        """
        source = torch.Generator().manual_seed(self.seed_of(task))
        known_as = task
        start: DeepGenerativeMemory | None = None
        if terms.revises:
            revised = self.manifest.entry(terms.revises)
            holder = self._holder(revised)
            known_as = self._known_as(revised)
            if holder is self._long_term:
                real = joined([real, holder.revision(real)])
            else:
                start = holder
        news = News.of_data(task, real, source, known_as)
        short = self.chosen.short_hidden
        replay = self._replay(self.short, short, UNBOUNDED, lambda examples, classes: steps)  # noqa: ARG005 - as in terms
        memory, trained = replay.learn(start, [news], clock, device, source, checkpoints)
        return memory.pack(), trained

    def materialised(self, index: int, classes: tuple[Label, ...]) -> FrozenExpert:
        """The expert of one task: what its memory generates of these classes."""
        return self._memory(index).model.expert(classes)

    def reuses(self) -> tuple[str, ...]:
        """The tasks whose short-term memory the newest one went on from."""
        return tuple(list(self._memory(len(self.manifest.tasks)).tasks)[:-1])

    def sleep(self, *, report: Report, device: torch.device) -> Shared:
        """Has the long-term memory learn what is in short-term memory, and trains the solver anew.

        Tasks that must stay erasable stay in short-term memory.
        """
        awake = self.awake(self.manifest)
        if not awake:
            raise CannotSleep(
                "nothing is in short-term memory that sleep could consolidate: every task is consolidated already, or "
                "has to stay erasable"
            )
        seed = mix(self.chosen.seed, self.manifest.revision, "sleep")
        limit = None if self.recipe.seconds is None else self.recipe.seconds * len(awake)
        clock = Clock(report, limit, SLEEP)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            source = torch.Generator().manual_seed(seed)
            budget = Budget(self.chosen.capacity, self.chosen.kappa)
            replay = self._replay(self.long, self.chosen.hidden, budget, self.recipe.steps)
            memory, _ = replay.learn(self._long_term, self._dreams(awake, device, source), clock, device, source)
            blob = memory.pack()
            revised = tuple(
                _consolidated(entry, memory, digest_of(blob))
                for entry in self.manifest.tasks
                if entry.consolidated or entry in awake
            )
            made = {digest_of(blob): blob}
            slept = type(self)(self.manifest.restored(Shared({}, made, revised)), {**self.blobs, **made})
            solver = slept.solver_anew(seed, clock, device)
        return Shared({"solver": digest_of(solver)}, {**made, digest_of(solver): solver}, revised)

    def solver(self, task: str | None = None) -> Solver:
        """See `GenerativeMemory.solver`; with a task, the learner of the memory that holds it  [DGDMN sec. 3.2]."""
        if task is None:
            return super().solver()
        entry = self.manifest.entry(task)
        return Restricted(self._holder(entry), entry.classes)

    def _holder(self, entry: TaskEntry) -> DeepGenerativeMemory:
        """The newest short-term memory that has seen a task, or one that repeats it; else the long-term one."""
        known_as = self._known_as(entry)
        for index, other in reversed(list(enumerate(self.manifest.tasks))):
            if not other.consolidated:
                memory = self._memory(index)
                if known_as in memory.times and set(entry.classes) <= set(memory.classes):
                    return memory
        return self._own(entry)

    def _known_as(self, entry: TaskEntry) -> str:
        """The first task that this one repeats: its own memory knows, others that hold it may not know its name."""
        return self._own(entry).tasks[entry.task].known_as

    def _own(self, entry: TaskEntry) -> DeepGenerativeMemory:
        """The memory that an entry names."""
        return self._memory(self.manifest.tasks.index(entry))

    def _memory(self, index: int) -> DeepGenerativeMemory:
        """The memory that holds a task, by its number."""
        if index == len(self.manifest.tasks):
            return DeepGenerativeMemory.unpack(self._newest, self.short, self.manifest.spec)
        entry = self.manifest.tasks[index]
        if entry.blob not in self._loaded:
            maker = self.long if entry.consolidated else self.short
            loaded = DeepGenerativeMemory.unpack(self.blobs[entry.blob], maker, self.manifest.spec)
            self._loaded[entry.blob] = loaded
        return self._loaded[entry.blob]

    @property
    def _long_term(self) -> DeepGenerativeMemory | None:
        """The long-term memory, once there is one."""
        consolidated = (index for index, entry in enumerate(self.manifest.tasks) if entry.consolidated)
        return next((self._memory(index) for index in consolidated), None)

    def _dreams(self, awake: Sequence[TaskEntry], device: torch.device, source: torch.Generator) -> list[News]:
        """What short-term memory has to tell; a memory that another one went on from is told of by that one."""
        memories = [self._own(entry) for entry in awake]
        last = [each for each in memories if not any(each.tasks.keys() < other.tasks.keys() for other in memories)]
        return [News.of_memory(each, self._examples(each), device, source) for each in last]

    def _examples(self, memory: DeepGenerativeMemory) -> int:
        """How many examples of its tasks there were, counted once for each time that they were seen.

        What long-term memory makes of them besides does not count: a task that comes again shall have its share twice,
        for it was seen twice, and not three times  [DGDMN sec. 3.1].
        """
        return sum(sum(expert.examples) for task in memory.tasks for expert in self.manifest.entry(task).experts)

    def _replay(self, maker: Maker, hidden: Sequence[int], budget: Budget, steps: Steps) -> Replay:
        usual = LearnerRecipe(lambda examples: min(self.recipe.classifier_steps, examples))
        learner = published(*hidden) if hidden else usual
        return Replay(self.manifest.spec, maker, learner, budget, steps)

    def _check(self, data: TaskData, terms: Terms) -> None:
        super()._check(data, terms)
        if not terms.revises:
            return
        if terms.erasable:
            raise CannotLearn(
                "terms.erasable",
                f"what repeats {terms.revises} goes on from it, so that neither can be taken out alone; learn it "
                "without erasable, or as a task of its own without revises",
            )
        known = {entry.task: entry for entry in self.manifest.tasks}
        if terms.revises not in known:
            raise CannotLearn(
                "terms.revises",
                f"this memory has no task {terms.revises!r} to repeat; its tasks are {', '.join(known) or 'none'}",
            )
        revised = known[terms.revises]
        if revised.erasable:
            raise CannotLearn(
                "terms.revises",
                f"task {revised.task} is to stay erasable, so that nothing may stand on it; leave revises empty",
            )
        if not set(revised.classes) & set(data.classes):
            raise CannotLearn(
                "terms.revises",
                f"task {revised.task} has none of these classes, so that this is no repetition; leave revises empty",
            )


def _consolidated(entry: TaskEntry, memory: DeepGenerativeMemory, blob: str) -> TaskEntry:
    """The entry of a task that long-term memory holds."""
    experts = tuple(
        ExpertEntry(memory.model.expert(each.classes).digest, each.classes, each.examples) for each in entry.experts
    )
    return replace(entry, blob=blob, experts=experts, consolidated=True)
