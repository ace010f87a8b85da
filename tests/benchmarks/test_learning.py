from types import SimpleNamespace

from harness.learning import slept


class Drowsy:
    """Stands for a memory that has to sleep a few times."""

    def __init__(self, sleeps):
        self.sleeps = sleeps

    def describe(self):
        return SimpleNamespace(drowsy=self.sleeps > 0, bytes=100 + self.sleeps)

    def sleep(self, progress):
        self.sleeps -= 1


def test_a_memory_that_is_drowsy_has_slept_before_anything_is_measured_and_one_that_is_not_is_left_alone():
    memory = Drowsy(sleeps=2)
    told = slept(memory)
    assert memory.sleeps == 0 and told["bytes"] == 100 and told["sleep_seconds"] >= 0.0
    assert slept(memory) == {}
