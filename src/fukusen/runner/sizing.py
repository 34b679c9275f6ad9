"""How many images are taken at once: as many as planned until memory runs out, then half as many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from fukusen.errors import require
from fukusen.models.memory import give_back, ran_out

Thing = TypeVar("Thing")
Made = TypeVar("Made")


class Sizing:
    """Work done in as few parts as memory allows; what was found out about one part holds for those that follow.

    Args:
        planned: how many things to take at once as long as they fit, at least 1.

    Example:
        >>> def work(part: str) -> int:
        ...     if len(part) > 3:
        ...         raise MemoryError
        ...     return len(part)
        >>> sizing = Sizing(8)
        >>> sizing.parts("counting", "abcdefgh", work), sizing.parts("counting", "abcd", work)
        ([2, 2, 2, 2], [2, 2])
        >>> sizing.note
        'Memory ran out with 8 images at once: they were taken 2 at a time.'
    """

    def __init__(self, planned: int) -> None:
        require(isinstance(planned, int) and planned >= 1, "Sizing", "planned", "an int >= 1", planned)
        self._planned = planned
        self._fitting: dict[str, int] = {}
        self._most = 0

    def parts(self, kind: str, things: Sequence[Thing], work: Callable[[Sequence[Thing]], Made]) -> list[Made]:
        """What the work makes of all things, part by part, in their order.

        A part for which memory runs out is halved and tried again; nothing of it has been kept.

        Args:
            kind: of the work; how much memory it needs is found out for each kind.
            things: to work on.
            work: what to do with some of them.

        Raises:
            MemoryError: or the device's own kind of it: memory runs out with one thing alone.
        """
        made: list[Made] = []
        start = 0
        while start < len(things):
            part = things[start : start + self._fitting.get(kind, self._planned)]
            try:
                made.append(work(part))
                start += len(part)
                continue
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not ran_out(error):
                    raise
            # Only here is the error gone, whose traceback holds every tensor of the pass that failed.
            give_back()
            self._fitting[kind] = (len(part) + 1) // 2
            self._most = max(self._most, len(part))
        return made

    @property
    def note(self) -> str:
        """What was found out, in one sentence; empty where everything fitted."""
        if not self._fitting:
            return ""
        return (
            f"Memory ran out with {self._most} images at once: they were taken {min(self._fitting.values())} at a time."
        )
