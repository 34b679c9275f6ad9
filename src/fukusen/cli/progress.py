"""How far an audit is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from fukusen.cli.output import say

EVERY = 5.0
WINDOW = 60.0


class Told:
    """A callback for ``fukusen.audit`` that tells a person on stderr; used as a context, which clears the bar.

    Args:
        quiet: whether to say nothing at all.
        unit: what is counted, in the plural.
    """

    def __init__(self, quiet: bool, unit: str = "images") -> None:
        console = Console(stderr=True)
        self._quiet = quiet
        self._unit = unit
        self._bar = None if quiet or not console.is_terminal else _bar(console)
        self._task = None if self._bar is None else self._bar.add_task("loading", total=None, speed="")
        self._past: deque[tuple[float, int]] = deque()
        self._said = time.monotonic()

    def __enter__(self) -> Told:  # noqa: PYI034 - Self is unknown to the shape checks of the tests
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, message: str) -> None:
        """Tell how far it is.

        Args:
            done: how many are finished.
            total: how many there are.
            message: what is being done.
        """
        if self._quiet:
            return
        now = time.monotonic()
        self._past.append((now, done))
        while len(self._past) > 2 and now - self._past[0][0] > WINDOW:
            self._past.popleft()
        speed = self._speed(total - done)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=message, completed=done, total=total, speed=speed)
        elif done >= total or now - self._said >= EVERY:
            self._said = now
            say(f"{message}: {done} of {total} {self._unit}{', ' if speed else ''}{speed}")

    def _speed(self, left: int) -> str:
        """How many a second over the last minute, and the time that the rest will take at that rate."""
        (began, before), (now, done) = self._past[0], self._past[-1]
        if done <= before or now <= began:
            return ""
        rate = (done - before) / (now - began)
        shown = f"{rate:.1f} {self._unit}/s" if rate >= 0.1 else f"{60 * rate:.1f} {self._unit}/min"
        return f"{shown}, about {duration(left / rate)} left" if left > 0 else shown


def duration(seconds: float) -> str:
    """A length of time as people say it.

    Example:
        >>> duration(7.2), duration(100.0), duration(5000.0)
        ('7 s', '2 min', '1 h 23 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _bar(console: Console) -> Progress:
    """A bar that is gone when it is done; the model's prints stay above it."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        console=console,
        transient=True,
        refresh_per_second=5,
        redirect_stdout=False,
        redirect_stderr=sys.stderr.isatty(),
    )
