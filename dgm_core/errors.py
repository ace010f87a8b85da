"""What a memory refuses, and why: each error says how to mend it."""


class CannotLearn(ValueError):
    """The data or the options do not suit this memory. `field` names what is wrong, the message says how to mend it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class QualityTooLow(RuntimeError):
    """The reverse accuracy of a task stayed below the caller's `min_quality`; nothing is kept."""


class CannotForget(ValueError):
    """Later tasks reuse what a task reserved, so that it cannot be erased before they are. `dependents` names them."""

    def __init__(self, task: str, dependents: tuple[str, ...]) -> None:
        later = f"task{'s' if len(dependents) > 1 else ''} {', '.join(dependents)}"
        super().__init__(
            f"task {task} cannot be forgotten: the later {later} reuse{'' if len(dependents) > 1 else 's'} what it "
            f"reserved; forget {later} first, newest first, and learn with erasable=True what may have to go alone"
        )
        self.dependents = dependents


class CannotBlend(ValueError):
    """This memory cannot blend what was asked for. `field` names what is wrong, the message says how to mend it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class TrainingDiverged(RuntimeError):
    """A loss became NaN or infinite; nothing is kept."""


class Cancelled(Exception):
    """Raised by a `Report` callback to stop learning at once."""
