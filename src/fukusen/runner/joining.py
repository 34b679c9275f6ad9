"""Several batches' results as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fukusen.auditing import Examined
from fukusen.records import Undefined


def joined(parts: Sequence[Examined]) -> Examined:
    """What several batches under one plan gave, in their order; a map that one of them lacks is lacking in all."""
    maps: dict[tuple[str, str], np.ndarray | Undefined] = {}
    with_maps = [part for part in parts if part.items]
    for key in with_maps[0].maps if with_maps else ():
        pieces = [part.maps[key] for part in with_maps]
        lacking = next((piece for piece in pieces if isinstance(piece, Undefined)), None)
        maps[key] = lacking or np.concatenate([piece for piece in pieces if not isinstance(piece, Undefined)])
    return Examined(
        tuple(item for part in parts for item in part.items),
        {item: why for part in parts for item, why in part.failures.items()},
        tuple(one for part in parts for one in part.predicted),
        tuple(one for part in parts for one in part.probability),
        tuple(one for part in parts for one in part.measurements),
        maps,
    )
