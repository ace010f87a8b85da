"""What a memory refuses, and why: each error says how to mend it."""


class CannotLearn(ValueError):
    """The data or the options do not suit this memory. `field` names what is wrong, the message says how to mend it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class QualityTooLow(RuntimeError):
    """The reverse accuracy of a task stayed below the caller's `min_quality`; nothing is kept."""


class CannotForget(ValueError):
    """A task cannot be erased: later ones, which `dependents` names, reuse what it reserved; or, if it names none, the
    task is in weights that all share.
    """

    def __init__(self, task: str, dependents: tuple[str, ...] = ()) -> None:
        super().__init__(self._of_dependents(task, dependents) if dependents else self._of_consolidated(task))
        self.dependents = dependents

    @staticmethod
    def _of_dependents(task: str, dependents: tuple[str, ...]) -> str:
        later = f"task{'s' if len(dependents) > 1 else ''} {', '.join(dependents)}"
        return (
            f"task {task} cannot be forgotten: the later {later} reuse{'' if len(dependents) > 1 else 's'} what it "
            f"reserved; forget {later} first, newest first, and learn with erasable=True what may have to go alone"
        )

    @staticmethod
    def _of_consolidated(task: str) -> str:
        return (
            f"task {task} cannot be forgotten: it is consolidated into one generator that has replayed it ever since; "
            "delete the memory and teach the other tasks to a new one, of a kind that keeps tasks apart if tasks may "
            "have to go (docs/kinds.md)"
        )


class CannotBlend(ValueError):
    """This memory cannot blend what was asked for. `field` names what is wrong, the message says how to mend it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class CannotSleep(ValueError):
    """This memory has nothing that sleep could consolidate: by its kind, or because all of it is consolidated."""


class TrainingDiverged(RuntimeError):
    """A loss became NaN or infinite; nothing is kept."""


class Cancelled(Exception):
    """Raised by a `Report` callback to stop learning at once."""
