"""What a file or a zoo holds of a model, before it has been looked at."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fukusen.models.heads import HeadKind
from fukusen.models.preprocessing import Preprocess


@dataclass(frozen=True)
class Found:
    """A network with what its own configuration says about it; each None means: it says nothing.

    Args:
        net: the network, in evaluation mode, and nobody else's.
        preprocess: from a PIL picture to a (c, h, w) tensor.
        classes: the class names.
        head: what the outputs are.
        input_size: channels, rows and columns, where there is no preprocessing to tell them.
        notes: what was assumed on the user's behalf, and what the user should know, in sentences.
    """

    net: nn.Module
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] | None = None
    head: HeadKind | None = None
    input_size: tuple[int, int, int] | None = None
    notes: tuple[str, ...] = ()
