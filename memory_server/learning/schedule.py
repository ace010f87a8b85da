"""Whose turn it is: tasks of one memory start strictly in order, memories in rotation."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Schedule(Generic[T]):
    """Items waiting per memory. A memory that had its turn goes behind the others, so none starves another."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[T]] = {}  # memories in the order of their turns

    def add(self, memory: str, item: T) -> None:
        """Puts an item behind the others of its memory."""
        self._waiting.setdefault(memory, deque()).append(item)

    def add_first(self, memory: str, item: T) -> None:
        """Puts an item before the others of its memory, which keeps its turn."""
        self._waiting.setdefault(memory, deque()).appendleft(item)

    def remove(self, memory: str, item: T) -> None:
        """Takes an item out. Raises ValueError if it does not wait."""
        items = self._waiting.get(memory, deque())
        items.remove(item)
        if not items:
            self._waiting.pop(memory)

    def next(self, free: Callable[[T], bool]) -> T | None:
        """Takes the item whose turn it is; memories of which the first item is not free to start are passed over.

        None if there is no such item.
        """
        memory = next((name for name, items in self._waiting.items() if free(items[0])), None)
        if memory is None:
            return None
        items = self._waiting.pop(memory)
        item = items.popleft()
        if items:
            self._waiting[memory] = items
        return item

    def order(self) -> list[T]:
        """All items in the order in which they are to start, as far as can be foreseen."""
        rounds = max(map(len, self._waiting.values()), default=0)
        return [items[turn] for turn in range(rounds) for items in self._waiting.values() if turn < len(items)]
