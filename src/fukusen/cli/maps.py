"""The maps of one image, as rows of numbers and as a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

import fukusen
from fukusen.auditing import Panel
from fukusen.auditing.places import place_of
from fukusen.methods import Method
from fukusen.models import Classifier, open_picture
from fukusen.models.preprocessing import CenterCrop, Squash, as_seen
from fukusen.pictures import Cell, Sheet, cells_of, centre_of, contact_sheet
from fukusen.records import Item, Undefined
from fukusen.scores import leak_of
from fukusen.view.words import Words, percent

HEADS = ("method", "score", "shift leak", "size", "centre of weight", "peak", "share")
SIDE = 448
GRID = 7
Place = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Row:
    """One map.

    Args:
        method: as it was run.
        score: the name of the score.
        leak: the score's shift leak on this image.
        weight: the part of the map that people look at, 0 or larger, at native resolution, or why there is none.
    """

    method: Method
    score: str
    leak: float
    weight: Cell

    @property
    def centre(self) -> Place | None:
        """The centre of mass, down and across as shares of the sides; None where there is no weight."""
        return None if isinstance(self.weight, Undefined) or self.weight.max() <= 0 else centre_of(self.weight)

    @property
    def peak(self) -> tuple[Place, float] | None:
        """The middle of the strongest of at most 7 x 7 cells, and its share of the weight; None where there is none."""
        if isinstance(self.weight, Undefined) or self.weight.max() <= 0:
            return None
        cells = cells_of(self.weight)
        down, across = np.unravel_index(cells.argmax(), cells.shape)
        height, width = cells.shape
        place = (float(down) + 0.5) / height, (float(across) + 0.5) / width
        return place, float(cells.max() / cells.sum())

    def as_json(self) -> dict[str, Any]:
        """The row with everything known of it; places are shares of the picture that the network saw."""
        centre, peak = self.centre, self.peak
        return {
            "method": self.method.name,
            "score": self.score,
            "shift_leak": self.leak,
            "track": self.method.track,
            "family": self.method.family,
            "reading": self.method.reading,
            "source": self.method.source,
            "shape": None if isinstance(self.weight, Undefined) else list(self.weight.shape),
            "center": None if centre is None else {"x": centre[1], "y": centre[0]},
            "peak": None if peak is None else {"x": peak[0][1], "y": peak[0][0], "share": peak[1]},
            "undefined": self.weight.reason if isinstance(self.weight, Undefined) else None,
        }

    def cells(self) -> list[str]:
        """The row as people read it, under ``HEADS``."""
        start = [self.method.name, self.score, f"{self.leak:g}"]
        if isinstance(self.weight, Undefined):
            return [*start, f"no map: {self.weight.reason}", "", "", ""]
        height, width = self.weight.shape
        centre, peak = self.centre, self.peak
        if centre is None or peak is None:
            return [*start, f"{height} x {width}", "empty map", "", ""]
        return [*start, f"{height} x {width}", _in_words(centre), _in_words(peak[0]), percent(peak[1])]


@dataclass(frozen=True, eq=False)
class Explained:
    """The maps of one image.

    Args:
        model: the model.
        item: the image.
        panel: its maps.
        rows: one a map, in the panel's order.
    """

    model: Classifier
    item: Item
    panel: Panel
    rows: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        """What was explained, and every row."""
        return {
            "model": {"spec": self.model.spec, "digest": self.model.digest},
            "image": self.item.path,
            "predicted": self._class(self._predicted),
            "explained": self._class(self._target),
            "rows": [row.as_json() for row in self.rows],
        }

    def lines(self) -> list[str]:
        """Which class is explained, in sentences."""
        own = self._named(self._target)
        if self._target == self._predicted:
            return [f"Explained: {own}, the predicted class."]
        return [f"Explained: {own}.", f"Predicted: {self._named(self._predicted)}."]

    def sheet(self) -> Image.Image:
        """The image and all its maps, as one picture."""
        words = Words()
        methods, scores = list(self.panel.methods.values()), list(self.panel.scores)
        by_key = {(row.method.name, row.score): row for row in self.rows}
        leaks = {row.score: row.leak for row in self.rows}
        cells = {
            (down, across): by_key[method.name, score].weight
            for down, method in enumerate(methods)
            for across, score in enumerate(scores)
        }
        rows = [(words.name("methods", one.name), _track(one, words)) for one in methods]
        columns = [(words.name("scores", name), f"shift leak {leaks[name]:g}") for name in scores]
        lines = [*self.lines(), f"Model: {self.model.spec}."]
        return contact_sheet(Sheet(_seen(self.model, self.item), self.item.name, lines, rows, columns, cells))

    @property
    def _predicted(self) -> int:
        return int(self.panel.logits[0].argmax())

    @property
    def _target(self) -> int:
        return int(self.panel.targets[0])

    def _probability(self, index: int) -> float:
        return float(self.model.probabilities(self.panel.logits)[0, index])

    def _class(self, index: int) -> dict[str, Any]:
        return {"index": index, "name": self.model.classes[index], "probability": self._probability(index)}

    def _named(self, index: int) -> str:
        return f"{self.model.classes[index]} (class {index}), probability {percent(self._probability(index))}"


def explained(
    model: Classifier,
    item: Item,
    target: int | None,
    methods: Sequence[str] | None,
    scores: Sequence[str] | None,
    layers: Sequence[str] = (),
) -> Explained:
    """The maps of one image.

    Args:
        model: the model.
        item: the image.
        target: index of the class to explain; None: the predicted one.
        methods: their names; None: all.
        scores: their names; None: all.
        layers: further layers at which the methods that read one are read, too.

    Raises:
        FukusenError: the picture cannot be read, or a name is unknown.
    """
    panel = fukusen.explain(model, [item.path], targets=target, methods=methods, scores=scores, layers=layers)
    told = (model.head, panel.logits, panel.targets)
    leaks = {name: round(float(leak_of(score, *told)[0]), 9) for name, score in panel.scores.items()}
    rows = [
        Row(panel.methods[method], score, leaks[score], panel.weight(method, score, 0)) for method, score in panel.made
    ]
    return Explained(model, item, panel, tuple(rows))


def _seen(model: Classifier, item: Item) -> Image.Image:
    """The part of the picture that the network saw, sharper than it saw it where its place is known."""
    picture, preprocess = open_picture(item.path), model.preprocess
    if isinstance(preprocess, CenterCrop | Squash):
        return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=preprocess.window(picture))
    return picture if preprocess is None else as_seen(preprocess(picture))


def _track(method: Method, words: Words) -> str:
    return f"{words.name('tracks', method.track)} track, {words.name('families', method.family)}"


def _in_words(place: Place) -> str:
    down, across = (min(int(share * GRID), GRID - 1) for share in place)
    return place_of(float(down * GRID + across))
