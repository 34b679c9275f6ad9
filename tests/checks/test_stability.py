"""Whether heatmaps stay when the picture looks the same, against each change made and taken back by hand."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from fukusen.arrays import Batch, Images
from fukusen.attacks import CornerShift
from fukusen.checks import Sight, Stability
from fukusen.checks.disturbing import NO_JPEG, mirrored, noisy, saved, shades_of, shifted
from fukusen.checks.stability import ANOTHER, FLIP, JPEG, MOVED, NO_ROW, NOISE, SCORES, SHIFT
from fukusen.errors import CallError
from fukusen.methods import methods
from fukusen.models import Classifier, wrap
from fukusen.records import Measurement, Value
from fukusen.tape import Tape

CHANGES = (NOISE, JPEG, SHIFT, FLIP)


def _named(found: list[Measurement]) -> dict[tuple[str | None, ...], Value]:
    named = {(one.item, one.method, one.score, one.against): one.value for one in found}
    assert len(named) == len(found)
    return named


def _by_hand(picture: torch.Tensor, change: str) -> torch.Tensor:
    """The changed picture of a network without preprocessing, pixel by pixel where that can be."""
    low, high = float(picture.min()), float(picture.max())
    if change == NOISE:
        drawn = np.random.default_rng([5, zlib.crc32(picture.numpy().tobytes())]).standard_normal(picture.shape)
        return (picture + torch.tensor(drawn, dtype=torch.float32) * 2 * (high - low) / 255).clamp(low, high)
    if change == JPEG:
        levels = np.round((picture.numpy() - low) / (high - low) * 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0))).save(file, "JPEG", quality=90)
        return torch.tensor(np.array(Image.open(file)).transpose(2, 0, 1) / 255 * (high - low) + low).float()
    changed = picture.clone()
    height, width = picture.shape[1:]
    for row in range(height):
        for column in range(width):
            came = (row, width - 1 - column) if change == FLIP else (max(row - 1, 0), max(column - 1, 0))
            changed[:, row, column] = picture[:, came[0], came[1]]
    return changed


def _back(cells: torch.Tensor, change: str, step: float) -> torch.Tensor:
    """A map (h, w) of the changed picture where it belongs; ``step`` is a pixel in cells."""
    if change in (NOISE, JPEG):
        return cells
    height, width = cells.shape
    found = torch.zeros_like(cells)
    for row in range(height):
        for column in range(width):
            if change == FLIP:
                found[row, column] = cells[row, width - 1 - column]
                continue
            for down, share in ((0, 1 - step), (1, step)):
                for right, part in ((0, 1 - step), (1, step)):
                    from_ = (min(row + down, height - 1), min(column + right, width - 1))
                    found[row, column] += share * part * cells[from_]
    return found


def _slow_map(net: nn.Sequential, picture: torch.Tensor, target: int, score: str, method: str) -> torch.Tensor:
    """LayerCAM or the gradient of one picture, by autograd in float64."""
    pixels = picture[None].double().requires_grad_()
    cells = net[:5](pixels)
    cells.retain_grad()
    logits = net[5:](cells)[0]
    others = torch.cat([logits[:target], logits[target + 1 :]])
    (logits[target] - (others.logsumexp(0) if score == "log_odds" else 0)).backward()
    if method == "layer_cam":
        return (cells.grad.relu() * cells.detach()).sum(dim=1)[0]
    return pixels.grad.sum(dim=1)[0]


@pytest.fixture
def calm(small: Classifier) -> Classifier:
    """The small network with a first class that none of the others comes near."""
    with torch.no_grad():
        small.net[7].bias[3] += 2
    return small


@pytest.mark.parametrize("method", ["layer_cam", "gradient"])
def test_each_change_is_what_it_is_by_hand(
    method: str, calm: Classifier, images: Images, see: Callable[..., Sight]
) -> None:
    """Each on its own tape, and its map brought back cell by cell."""
    found = _named(Stability(seed=5).measure(see(calm, method)))
    net = calm.in_double().net
    step = 0.5 if method == "layer_cam" else 1.0
    assert {(score, against) for _, _, score, against in found} == {
        (score, against) for score in ("logit", "log_odds") for against in CHANGES
    }
    for (item, _, score, change), value in found.items():
        picture = images["abc".index(str(item))]
        target = int(net(picture[None].double()).argmax())
        own = _slow_map(net, picture, target, str(score), method)
        other = _back(_slow_map(net, _by_hand(picture, str(change)), target, str(score), method), str(change), step)
        read = torch.abs if method == "gradient" else torch.relu
        one, two = (adaptive_avg_pool2d(read(cells)[None], 7).flatten().tolist() for cells in (own, other))
        dot = sum(a * b for a, b in zip(one, two, strict=True))
        sizes = [sqrt(sum(a * a for a in cells)) for cells in (one, two)]
        assert value == pytest.approx(dot / sizes[0] / sizes[1], abs=1e-6)
        assert value < 1 - 1e-7


@pytest.fixture
def equivariant() -> Classifier:
    """A network that looks at each pixel alone: its maps go wherever the picture goes."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    return wrap(net.eval(), input_size=(3, 24, 24), head="softmax", layer="1")


def test_what_goes_with_the_picture_is_the_same(
    equivariant: Classifier, images: Images, see: Callable[..., Sight]
) -> None:
    """Of something in the middle of an empty picture."""
    images[:, :, :5] = images[:, :, -5:] = 0
    images[:, :, :, :4] = images[:, :, :, -6:] = 0
    found = _named(Stability().measure(see(equivariant, "grad_cam", "layer_cam", "gradient")))
    moved = [value for (*_, against), value in found.items() if against in (SHIFT, FLIP)]
    numbers = [value for value in moved if isinstance(value, float)]
    assert len(numbers) > 30
    assert numbers == pytest.approx([1.0] * len(numbers), abs=1e-5)


def test_the_class_that_is_explained_is_explained_again(equivariant: Classifier, images: Images) -> None:
    """Also where it is not the one that is predicted."""
    images[:, :, :5] = images[:, :, -5:] = 0
    images[:, :, :, :4] = images[:, :, :, -6:] = 0
    tape = Tape(equivariant, Batch(("a", "b", "c"), images, equivariant.logits(images).argmin(dim=1)))
    method = methods.build("layer_cam")
    maps = dict(zip((("layer_cam", name) for name in SCORES), method.maps(tape, list(SCORES.values())), strict=True))
    found = _named(Stability().measure(Sight(equivariant, tape, {"layer_cam": method}, maps)))
    flipped = [value for (*_, against), value in found.items() if against == FLIP]
    assert flipped == pytest.approx([1.0] * 6, abs=1e-5)


class Hashed(nn.Module):
    """A number on all logits, worth nothing, whose gradient lies in a cell that is drawn anew for every picture."""

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        cells = self.net[:5](images)
        logits: torch.Tensor = self.net[5:](cells)
        mask = torch.zeros_like(cells)
        for number, image in enumerate(images.detach().cpu()):
            chance = np.random.default_rng(zlib.crc32(image.numpy().tobytes()))
            row, column = chance.integers(mask.shape[2]), chance.integers(mask.shape[3])
            mask[number, :, row, column] = 1e4
        drawn = (cells * mask).sum(dim=(1, 2, 3))
        return logits + (drawn - drawn.detach())[:, None]


def test_a_map_of_chance_does_not_stay(calm: Classifier, see: Callable[..., Sight]) -> None:
    """Whatever changes; and the log-odds' does."""
    model = wrap(Hashed(calm.net).eval(), input_size=(3, 24, 24), head="softmax", layer="net.4")
    found = _named(Stability().measure(see(model, "layer_cam")))
    chance = [value for (_, _, score, _), value in found.items() if score == "logit"]
    honest = [value for (_, _, score, _), value in found.items() if score == "log_odds"]
    assert len(chance) == len(honest) == 12
    assert sorted(chance)[-3] < 0.5
    assert min(honest) > 0.9


def test_a_corner_does_not_flip_with_the_picture(calm: Classifier, images: Images, see: Callable[..., Sight]) -> None:
    """And stands everything else."""
    found = _named(Stability().measure(see(CornerShift(1e4).twin(calm, images), "layer_cam")))
    for (_, _, score, against), value in found.items():
        if score == "logit" and against == FLIP:
            assert value < 0.1
        else:
            assert value > 0.9


class OneSided(nn.Module):
    """Two classes: which half of the picture is brighter."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Conv2d(3, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        left, right = self.cells(images).mean(dim=(1, 2)).chunk(2, dim=1)
        difference = left.mean(dim=1) - right.mean(dim=1)
        return torch.stack([difference, -difference], dim=1)


def test_where_the_prediction_turns_nothing_is_compared(see: Callable[..., Sight]) -> None:
    """A flip turns it around, and a JPEG does not."""
    torch.manual_seed(0)
    model = wrap(OneSided().eval(), input_size=(3, 24, 24), head="softmax", layer="cells")
    found = _named(Stability().measure(see(model, "gradient")))
    assert {value for (*_, against), value in found.items() if against == FLIP} == {ANOTHER}
    assert not {value for (*_, against), value in found.items() if against == JPEG} & {ANOTHER, MOVED}


def test_where_the_probability_moves_nothing_is_compared(calm: Classifier, see: Callable[..., Sight]) -> None:
    found = _named(Stability(moves=1e-9).measure(see(calm, "gradient")))
    assert set(found.values()) == {MOVED}
    kept = _named(Stability(moves=1).measure(see(calm, "gradient")))
    assert not set(kept.values()) & {MOVED, ANOTHER}


def test_only_maps_without_passes_of_their_own_are_made_again(calm: Classifier, see: Callable[..., Sight]) -> None:
    assert [one.value for one in Stability().measure(see(calm, "occlusion"))] == [NO_ROW] * 3
    found = Stability().measure(see(calm, "occlusion", "grad_cam"))
    assert {(one.method, one.score) for one in found} == {("grad_cam", "logit"), ("grad_cam", "log_odds")}


def test_a_picture_that_no_jpeg_holds_says_so() -> None:
    """Two channels."""
    picture = torch.rand(2, 8, 8)
    shades = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 2, 1, 1)
    assert saved(90).changed(picture, shades) == NO_JPEG
    assert saved(90).changed(picture[:1], shades[:, :1]).shape == (1, 8, 8)


def test_changes_are_small_and_stay_among_the_shades() -> None:
    """Noise of its standard deviation; a better JPEG is nearer."""
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    smooth = adaptive_avg_pool2d(picture[None], 8).repeat_interleave(8, 2).repeat_interleave(8, 3)[0]
    shades = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 3, 1, 1)
    assert float((noisy(2.0, 0).changed(picture, shades) - picture).std()) == pytest.approx(2 / 255, rel=0.05)
    assert not noisy(2.0, 0).changed(picture, shades).equal(noisy(2.0, 1).changed(picture, shades))
    loud = noisy(200.0, 0).changed(picture, shades)
    assert 0 <= float(loud.min()) < float(loud.max()) <= 1
    off = [float((saved(quality).changed(smooth, shades) - smooth).abs().mean()) for quality in (10, 50, 95)]
    assert off == sorted(off, reverse=True)
    assert off[-1] < 2 / 255


def test_shades_are_what_preprocessing_makes_of_black_and_white(small: Classifier) -> None:
    """Where it says nothing, the image's own; what lies beyond counts."""
    image = torch.rand(3, 24, 24)
    image[0, 0, 0], image[1, 0, 0] = 9, -9

    def seen(picture: Image.Image) -> torch.Tensor:
        values = torch.tensor(np.asarray(picture.resize((24, 24))), dtype=torch.float32).permute(2, 0, 1) / 255
        return (0.5 - values) / torch.tensor([0.25, 0.5, 0.5])[:, None, None]

    dark, bright = shades_of(wrap(small.net, seen, input_size=(3, 24, 24)), image).flatten(1)
    assert dark.tolist() == [-2, -9, -1]
    assert bright.tolist() == [9, 1, 1]
    for nothing in (None, lambda picture: seen(picture) * torch.nan, lambda picture: seen(picture) * 0):
        dark, bright = shades_of(replace(small, preprocess=nothing), image).flatten(1)
        assert dark.tolist() == [-9.0] * 3
        assert bright.tolist() == [9.0] * 3


def test_a_flat_picture_stays_flat() -> None:
    picture = torch.full((3, 16, 16), 0.3)
    shades = torch.tensor([0.3, 0.3])[:, None, None, None].expand(2, 3, 1, 1)
    for disturbance in (noisy(2.0, 0), saved(90), shifted(), mirrored()):
        assert disturbance.changed(picture, shades).equal(picture)


def test_a_shift_of_a_pixel_is_a_part_of_a_coarse_cell() -> None:
    """Half of one where there are half as many cells as pixels; the last cell has no other to come from."""
    maps = torch.tensor([[[0.0, 4.0], [8.0, 16.0]]])
    assert shifted().back(maps, (4, 4)).tolist() == [[[7.0, 10.0], [12.0, 16.0]]]
    assert shifted().back(maps, (2, 2)).tolist() == [[[16.0, 16.0], [16.0, 16.0]]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("noise", value) for value in (0, -1.0, 256, True, float("nan"))),
        *(("moves", value) for value in (0, 1.5, True)),
        *(("quality", value) for value in (0, 96, True)),
        *(("seed", value) for value in (-1, True)),
    ],
)
def test_what_cannot_be_is_refused(field: str, value: object) -> None:
    with pytest.raises(CallError, match=f"The '{field}' parameter of Stability must be"):
        Stability(**{field: value})
