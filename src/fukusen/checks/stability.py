"""Whether a heatmap stays where the picture looks the same and the prediction stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from fukusen.arrays import Batch, Images
from fukusen.checks.check import Sight, checks
from fukusen.checks.disturbing import NO_JPEG, Changed, Disturbance, mirrored, noisy, saved, shades_of, shifted
from fukusen.checks.heat import Row, Shares, cosine_of, rows_of, shares_of
from fukusen.errors import require
from fukusen.methods import Method, layers_of
from fukusen.models import Classifier
from fukusen.records import Measurement, Scope, Undefined, Value
from fukusen.scores import Logit, LogOdds, Score
from fukusen.tape import Tape

NOISE, JPEG, SHIFT, FLIP = "noise", "jpeg", "shift", "flip"
SCORES: dict[str, Score] = {score.name: score for score in (Logit(), LogOdds())}
NO_ROW = Undefined("no heatmap of the logit or of the log-odds was asked for that needs no pass of its own")
ANOTHER = Undefined("the model predicts another class for the changed picture")
MOVED = Undefined("the probability of the explained class moves with the change of the picture")


@checks.register
@dataclass(frozen=True)
class Stability:
    """How alike the heatmaps of a picture and of one that looks the same are: their cosine, per method and score.

    Four pictures look the same: with faint noise, through a JPEG, one pixel to the right and down, and flipped left to
    right; the heatmap is moved and flipped back. Only where the predicted class stays and the probability of the
    explained one hardly moves is there anything to compare. Only methods without passes of their own are looked at.
    Source: alvarezmelis2018robustness, ghorbani2019fragility.

    Args:
        noise: standard deviation of the noise, in levels of 255; above 0.
        quality: of the JPEG, 1 to 95.
        moves: how far the probability of the explained class may move, above 0 and at most 1.
        seed: of the noise, at least 0.
    """

    noise: float | int = 2.0
    quality: int = 90
    moves: float | int = 0.1
    seed: int = 0
    name: ClassVar[str] = "stability"
    title: ClassVar[str] = "Heatmaps stay when the picture looks the same"
    source: ClassVar[str] = "alvarezmelis2018robustness"
    meaning: ClassVar[str] = (
        "smallest cosine between the heatmaps of a picture and of four that look the same, where the prediction stays; "
        "1 is the same heatmap, 0 two that do not overlap"
    )
    scope: ClassVar[Scope] = "image"
    larger_is_worse: ClassVar[bool] = False
    on_sample: ClassVar[bool] = True
    inapplicable: ClassVar[frozenset[str]] = frozenset(one.reason for one in (NO_ROW, ANOTHER, MOVED, NO_JPEG))

    def __post_init__(self) -> None:
        owner = "Stability"
        for field, most in (("noise", 255), ("moves", 1)):
            value = getattr(self, field)
            fine = isinstance(value, float | int) and not isinstance(value, bool) and 0 < value <= most
            require(fine, owner, field, f"a number above 0 and at most {most}", value)
        require(
            type(self.quality) is int and 1 <= self.quality <= 95, owner, "quality", "an int from 1 to 95", self.quality
        )
        require(type(self.seed) is int and self.seed >= 0, owner, "seed", "an int >= 0", self.seed)

    def applies(self, classifier: Classifier) -> Undefined | None:  # noqa: ARG002 - says the same of every model
        """To every model."""
        return None

    def measure(self, sight: Sight) -> list[Measurement]:
        """One cosine (0 to 1) for each image, method, score and change; ``against`` says which change.

        Undefined when: the prediction does not stay, a heatmap is empty or not finite, or no such method was asked for.
        """
        tape = sight.tape
        if tape is None:
            return []
        rows = [one for one in rows_of(sight) if one.score in SCORES and sight.methods[one.method].single_pass]
        if not rows:
            return [Measurement(self.name, NO_ROW, item) for item in tape.batch.items]
        shades = [shades_of(sight.classifier, image) for image in tape.batch.images]
        found = []
        for against, disturbance in self._disturbances().items():
            pairs = zip(tape.batch.images, shades, strict=True)
            changed = [disturbance.changed(image, between) for image, between in pairs]
            for row, values in self._alike(sight, rows, changed, disturbance):
                items = zip(tape.batch.items, values, strict=True)
                found += [Measurement(self.name, value, item, row.method, row.score, against) for item, value in items]
        return found

    def _disturbances(self) -> dict[str, Disturbance]:
        return {NOISE: noisy(self.noise, self.seed), JPEG: saved(self.quality), SHIFT: shifted(), FLIP: mirrored()}

    def _alike(
        self, sight: Sight, rows: Sequence[Row], changed: Sequence[Changed], disturbance: Disturbance
    ) -> Iterator[tuple[Row, list[Value]]]:
        """The cosines of each row's heatmaps with those of the changed pictures, or why there are none."""
        images = [one for one in changed if not isinstance(one, Undefined)]
        lacking = [one for one in changed if isinstance(one, Undefined)]
        if sight.tape is None or lacking:
            for row in rows:
                yield row, [*lacking]
            return
        chosen = {row.method: sight.methods[row.method] for row in rows}
        other = _through(sight.classifier, sight.tape, torch.stack(images), list(chosen.values()))
        why = self._why_not(sight.classifier, sight.tape, other)
        for name, method in chosen.items():
            own = [row for row in rows if row.method == name]
            made = method.maps(other, [SCORES[row.score] for row in own])
            for row, maps in zip(own, made, strict=True):
                if isinstance(maps, Undefined):
                    yield row, [maps] * len(why)
                    continue
                shares = shares_of(disturbance.back(maps.detach(), sight.classifier.input_shape[1:]), method)
                values = zip(row.shares, shares, why, strict=True)
                yield row, [_likeness(one, two) if reason is None else reason for one, two, reason in values]

    def _why_not(self, model: Classifier, tape: Tape, other: Tape) -> list[Undefined | None]:
        """For each image why the heatmaps cannot be expected to be the same, or None where they can."""
        same = tape.logits.argmax(dim=1) == other.logits.argmax(dim=1)
        before, after = (
            model.probabilities(one.logits).gather(1, tape.targets[:, None])[:, 0] for one in (tape, other)
        )
        near = (before - after).abs() <= self.moves
        pairs = zip(same.tolist(), near.tolist(), strict=True)
        return [ANOTHER if not alike else None if close else MOVED for alike, close in pairs]


def _through(model: Classifier, tape: Tape, images: Images, chosen: Sequence[Method]) -> Tape:
    """The same classes explained on other images of the same items."""
    batch = Batch(tape.batch.items, images, tape.targets)
    return Tape(model, batch, layers=layers_of(chosen, model), at_input=any(method.at_input for method in chosen))


def _likeness(one: Shares | Undefined, other: Shares | Undefined) -> Value:
    if isinstance(one, Undefined):
        return one
    return other if isinstance(other, Undefined) else cosine_of(one, other)
