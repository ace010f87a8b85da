import numpy as np
from memory_client import QualityTooLow, Task, TaskState
from seconds_to_quality import first_budget

from memory_server.demo.datasets import Part

REAL = Part(np.zeros((2, 1, 8, 8), np.uint8), np.zeros(2, np.int64))


class MemoryThatNeeds:
    """Stands for a memory that reaches any quality with so many steps."""

    def __init__(self, needed):
        self.needed, self.asked = needed, []

    def learn_task(self, stream, task, steps, min_quality):
        self.asked.append((task, steps, min_quality))
        if steps < self.needed:
            raise QualityTooLow(f"task {task} reached a reverse accuracy of 0.500")
        return Task("timing", task, TaskState.LEARNED, quality=0.97)


def test_the_first_budget_that_suffices_is_the_last_that_is_tried(capsys):
    memory = MemoryThatNeeds(150)
    assert first_budget(memory, REAL, (50, 100, 200, 400), 0.95).name == "with-200"
    assert memory.asked == [("with-50", 50, 0.95), ("with-100", 100, 0.95), ("with-200", 200, 0.95)]
    out = capsys.readouterr().out
    assert "task with-100 reached a reverse accuracy of 0.500" in out
    assert "**reached 0.970**" in out


def test_where_no_budget_suffices_there_is_no_task():
    assert first_budget(MemoryThatNeeds(999), REAL, (50, 100), 0.95) is None
