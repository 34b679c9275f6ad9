"""How many images went forward through a network, counted where every pass begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Count:
    """A number that grows while its ``with`` block runs.

    Args:
        images: that went forward, an image as often as it went.
    """

    images: int = 0


_RUNNING: ContextVar[tuple[Count, ...]] = ContextVar("_RUNNING", default=())


@contextmanager
def forwards_counted() -> Iterator[Count]:
    """Count the images that classifiers take forward within the block, in this thread.

    Backward passes are not counted. Counts may be nested: each sees all that happens within it.

    Example:
        >>> with forwards_counted() as count:
        ...     went_forward(16)
        >>> count.images
        16
    """
    count = Count()
    token = _RUNNING.set((*_RUNNING.get(), count))
    try:
        yield count
    finally:
        _RUNNING.reset(token)


def went_forward(images: int) -> None:
    """Say that so many images went forward, to whoever counts."""
    for count in _RUNNING.get():
        count.images += images
