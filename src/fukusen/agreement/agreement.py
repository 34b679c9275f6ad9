"""What an agreement is, the registry of all of them, and the shortest way to use one."""

from __future__ import annotations

from typing import ClassVar, Final, Protocol, runtime_checkable

import torch

from fukusen.agreement.pairs import Pairs
from fukusen.arrays import Maps, MapStack
from fukusen.errors import require
from fukusen.records import Value
from fukusen.registry import Named, Registry


@runtime_checkable
class Agreement(Named, Protocol):
    """How alike two maps of one image are, as one number.

    An agreement is a frozen dataclass whose fields are its parameters. It is symmetric, the same on every device,
    and says of each image what it would say of that image alone.

    Attributes:
        name: the registered name.
        source: the key in the bibliography.
        higher_is_closer: whether larger numbers mean more alike maps (a distance: False).
        value_range: the smallest and the largest possible number.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    higher_is_closer: ClassVar[bool]
    value_range: ClassVar[tuple[float, float]]

    def pairs(self, maps: MapStack) -> Pairs:
        """The agreement of every two maps of a panel.

        Args:
            maps: m maps of each of b images, shape (m, b, h, w), any floating type, signed.

        Returns:
            The numbers and reasons, shape (m, m, b).
        """
        ...


agreements: Final[Registry[Agreement]] = Registry("agreement")


def compare(agreement: Agreement, a: Maps, b: Maps) -> tuple[Value, ...]:
    """The agreement of two maps, image by image.

    Args:
        agreement: which one.
        a: one map an image, shape (b, h, w).
        b: the maps to compare them with, of the same shape.

    Returns:
        One number in the agreement's range, or the reason why there is none, an image.

    Raises:
        CallError: the shapes differ.

    Example:
        >>> from fukusen.agreement import Cosine
        >>> compare(Cosine(), torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 0.0]]]))
        (1.0,)
    """
    require(a.shape == b.shape, "compare", "b", f"maps of shape {tuple(a.shape)} as 'a' is", tuple(b.shape))
    pairs = agreement.pairs(torch.stack([a, b]))
    return tuple(pairs.value(0, 1, image) for image in range(len(a)))
