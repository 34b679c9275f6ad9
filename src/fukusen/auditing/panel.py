"""Every map of one batch: all methods in all scores, from one tape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from fukusen.agreement import Agreement, Pairs, agreements, heatmaps
from fukusen.arrays import Batch, Logits, Maps, Targets
from fukusen.errors import CallError, UnknownName, require
from fukusen.methods import Explained, Method, layers_of
from fukusen.models import Classifier
from fukusen.models.preprocessing import as_seen
from fukusen.pictures import Cell, Sheet, contact_sheet, weight_of
from fukusen.records import Spec, Undefined
from fukusen.scores import Score
from fukusen.tape import Tape

GRID = 7


@dataclass(frozen=True, eq=False)
class Panel:
    """The maps of some images, by method and score.

    Args:
        items: the images' names.
        images: preprocessed, shape (b, c, h, w).
        logits: shape (b, k).
        targets: the classes explained, shape (b,).
        methods: by name, as they were run.
        scores: by name.
        made: the maps (b, h, w), signed and at native resolution, or the reason why there are none.
    """

    items: tuple[str, ...]
    images: Float[Tensor, "b c _ _"] = field(repr=False)
    logits: Logits = field(repr=False)
    targets: Targets
    methods: Mapping[str, Method]
    scores: Mapping[str, Score]
    made: Mapping[tuple[str, str], Explained] = field(repr=False)

    def __getitem__(self, key: tuple[str, str]) -> Maps:
        """The maps of a method in a score, shape (b, h, w).

        Raises:
            UnknownName: the panel has no such method or score.
            CallError: there is no such map on this network; the message says why.
        """
        method, score = key
        if method not in self.methods:
            raise UnknownName("method in this panel", method, self.methods)
        if score not in self.scores:
            raise UnknownName("score in this panel", score, self.scores)
        found = self.made[key]
        if isinstance(found, Undefined):
            raise CallError(f"There is no {method} map of this network: {found.reason}.")
        return found

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.made)

    def __len__(self) -> int:
        return len(self.made)

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """The methods and scores that have maps."""
        return tuple(key for key, maps in self.made.items() if not isinstance(maps, Undefined))

    def heatmaps(self, side: int = GRID) -> torch.Tensor:
        """The rows' maps as heatmaps on one grid, shape (m, b, side, side), non-negative."""
        maps = [self[key] for key in self.rows]
        return heatmaps(maps, [self.methods[method].reading for method, _ in self.rows], side)

    def agreement(self, measure: str | Spec | Agreement = "spearman", side: int = GRID) -> Pairs:
        """How alike every two of the rows' heatmaps are, image by image.

        Args:
            measure: a name from ``fukusen.list_agreements()``, or an agreement with its own parameters.
            side: of the grid on which all are compared.

        Returns:
            Numbers of shape (m, m, b), in the order of ``rows``; ``median(i, j)`` sums them up.
        """
        return agreements.build(measure).pairs(self.heatmaps(side))

    def weight(self, method: str, score: str, image: int) -> Cell:
        """The part of one map that people look at, (h, w) and 0 or larger, or why there is none."""
        maps = self.made[method, score]
        if isinstance(maps, Undefined):
            return maps
        values = maps[image].double().cpu()
        if not bool(values.isfinite().all()):
            return Undefined("it holds numbers that are not finite")
        return weight_of(self.methods[method].reading, values.numpy())

    def plot(self, image: int = 0) -> Image.Image:
        """One image and all its maps as one picture, a row a method and a column a score.

        Args:
            image: which one, counted from 0.

        Returns:
            An RGB picture; notebooks show it, and its ``save`` writes it to a file.

        Raises:
            CallError: there is no such image.
        """
        count = len(self.items)
        require(type(image) is int and 0 <= image < count, "plot", "image", f"an int from 0 to {count - 1}", image)
        cells = {
            (down, across): self.weight(method, score, image)
            for down, method in enumerate(self.methods)
            for across, score in enumerate(self.scores)
        }
        rows = [(name, f"{method.track} track, {method.family}") for name, method in self.methods.items()]
        lines = [f"Explained: class {int(self.targets[image])}."]
        columns = [(name,) for name in self.scores]
        return contact_sheet(Sheet(as_seen(self.images[image]), self.items[image], lines, rows, columns, cells))


def explain(classifier: Classifier, batch: Batch, methods: Sequence[Method], scores: Sequence[Score]) -> Panel:
    """Every method's maps in every score, from one forward pass and as few others as the methods need.

    Args:
        classifier: the model, left as it is.
        batch: the images and the classes to explain.
        methods: of the panel.
        scores: of the panel.

    Returns:
        The panel.
    """
    at_input = any(method.at_input for method in methods)
    tape = Tape(classifier, batch, layers=layers_of(methods, classifier), at_input=at_input)
    return panel_of(tape, methods, scores)


def panel_of(tape: Tape, methods: Sequence[Method], scores: Sequence[Score]) -> Panel:
    """The panel of a tape that is there already."""
    made: dict[tuple[str, str], Explained] = {}
    for method in methods:
        for score, maps in zip(scores, method.maps(tape, scores), strict=True):
            made[method.name, score.name] = maps if isinstance(maps, Undefined) else maps.detach()
    by_name, asked = {method.name: method for method in methods}, {score.name: score for score in scores}
    return Panel(tape.batch.items, tape.batch.images, tape.logits, tape.targets, by_name, asked, made)


def joined_panels(parts: Sequence[Panel]) -> Panel:
    """The panels of several batches as one; a map that one of them lacks is lacking in all."""
    first = parts[0]
    made: dict[tuple[str, str], Explained] = {}
    for key in first.made:
        pieces = [part.made[key] for part in parts]
        lacking = next((piece for piece in pieces if isinstance(piece, Undefined)), None)
        made[key] = lacking or torch.cat([piece for piece in pieces if not isinstance(piece, Undefined)])
    items = tuple(item for part in parts for item in part.items)
    images, logits, targets = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("images", "logits", "targets")
    )
    return Panel(items, images, logits, targets, first.methods, first.scores, made)
