"""The areas are those of deletion and insertion, chance is shared, and no picture is looked at twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from fukusen.arrays import Batch
from fukusen.auditing.plan import STANDARD_METHODS
from fukusen.checks import Faithfulness, Sight
from fukusen.checks.faithfulness import EMPTY, TOO_SMALL
from fukusen.checks.hiding_cells import chance_orders
from fukusen.errors import CallError
from fukusen.methods import methods
from fukusen.models import Classifier, wrap
from fukusen.records import Measurement
from fukusen.tape import Tape


class Corner(nn.Module):
    """Two classes told apart by the brightness of the upper left quarter alone."""

    def forward(self, images: Tensor) -> Tensor:
        bright = 20 * (images[:, :, :12, :12].mean(dim=(1, 2, 3)) - 0.5)
        return torch.stack([bright, -bright], dim=1)


@pytest.fixture
def corner() -> Sight:
    """Two images with a bright quarter, and maps that tell where it is, and where it is not."""
    images = 0.1 * torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    images[:, :, :12, :12] += 0.8
    model = wrap(Corner(), input_size=(3, 28, 28), head="softmax")
    true = torch.zeros(2, 7, 7)
    true[:, :3, :3] = torch.linspace(2, 1, 9).reshape(3, 3)
    made = {"gradient": methods.build("gradient"), "input_x_gradient": methods.build("input_x_gradient")}
    maps = {("gradient", "log_odds"): true, ("input_x_gradient", "log_odds"): (true == 0).float()}
    return Sight(model, Tape(model, Batch(("a", "b"), images), layers=()), made, maps)


def _values(found: Sequence[Measurement], method: str | None, against: str) -> list[float]:
    chosen = [one for one in found if (one.method, one.against) == (method, against)]
    return [one.value for one in chosen if isinstance(one.value, float)]


def _curve(model: Classifier, image: Tensor, target: int, order: Sequence[int], keep_first: bool) -> list[float]:
    """The class's probability after none, one, ... all of the cells of a 4 x 4 grid, one picture at a time."""
    side = image.shape[1] // 4
    paint = image.mean(dim=(1, 2))
    values = []
    for count in range(len(order) + 1):
        first = set(order[:count])
        seen = image.clone()
        for cell in range(16):
            if (cell in first) != keep_first:
                rows, columns = divmod(cell, 4)
                place = slice(rows * side, (rows + 1) * side), slice(columns * side, (columns + 1) * side)
                seen[:, place[0], place[1]] = paint[:, None, None]
        values.append(float(model.logits(seen[None]).double().softmax(dim=1)[0, target]))
    return values


def test_it_is_the_area_of_deletion_and_insertion(small: Classifier) -> None:
    """Cell by cell in float64, as the papers have it, less the mean of the orders by chance."""
    model = small.in_double()
    list(model.net.parameters())[-2].data.mul_(20)
    images = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(1)).double()
    tape = Tape(model, Batch(("a", "b"), images), layers=())
    heat = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(2))
    check = Faithfulness(grid=4, share=1 / 16, steps=15, orders=2)
    sight = Sight(model, tape, {"gradient": methods.build("gradient")}, {("gradient", "log_odds"): heat})
    found = check.measure(sight)
    for number in range(2):
        target = int(tape.targets[number])
        orders = [heat[number].flatten().argsort(descending=True), *chance_orders(4, 2, 0)]
        for kind, keep_first, sign in (("deletion", False, -1), ("insertion", True, 1)):
            curves = [_curve(model, images[number], target, one.tolist(), keep_first) for one in orders]
            own, *others = (float(torch.trapezoid(torch.tensor(curve, dtype=torch.float64)) / 16) for curve in curves)
            apart = [sign * (own - other) for other in others]
            assert _values(found, "gradient", kind)[number] == pytest.approx(sum(apart) / 2, abs=1e-12)
            assert _values(found, "gradient", f"{kind}/low")[number] == pytest.approx(min(apart), abs=1e-12)
            assert _values(found, "gradient", f"{kind}/high")[number] == pytest.approx(max(apart), abs=1e-12)
            after = curves[0][1]
            top = curves[0][0] - after if kind == "deletion" else after
            name = "necessity" if kind == "deletion" else "sufficiency"
            assert _values(found, "gradient", name)[number] == pytest.approx(top, abs=1e-12)


def test_the_part_that_matters_is_told_from_the_others(corner: Sight) -> None:
    """Better than every order by chance, and worse than each."""
    found = Faithfulness().measure(corner)
    assert min(_values(found, "gradient", "deletion/low")) > 0
    assert min(_values(found, "gradient", "insertion/low")) > 0
    assert min(_values(found, "gradient", "necessity")) > 0.3
    assert min(_values(found, "gradient", "sufficiency")) > 0.9
    assert max(_values(found, "input_x_gradient", "deletion")) < 0
    assert {one.method for one in found} == {None, "gradient", "input_x_gradient"}


def _asked(check: Faithfulness, sight: Sight) -> int:
    """How many pictures were looked at."""
    seen: list[int] = []
    real = Classifier.logits

    def counted(model: Classifier, images: Tensor) -> Tensor:
        seen.append(len(images))
        return real(model, images)

    with patch.object(Classifier, "logits", counted):
        check.measure(sight)
    return sum(seen)


def test_scores_with_the_same_order_cost_nothing_more(small: Classifier, see: Callable[..., Sight]) -> None:
    """Log-odds, log-probability and probability are one map in three lengths; the others wait until they are asked."""
    whole = see(small, "grad_cam", "hires_cam", "input_x_gradient")
    alone = {key: maps for key, maps in whole.maps.items() if key[1] == "log_odds"}
    three = {key: maps for key, maps in whole.maps.items() if key[1] in ("log_odds", "log_probability", "probability")}
    one = Sight(small, whole.tape, whole.methods, alone)
    least = _asked(Faithfulness(), one)
    assert _asked(Faithfulness(), whole) == least
    assert _asked(Faithfulness(rows="all"), Sight(small, whole.tape, whole.methods, three)) == least
    found = Faithfulness().measure(whole)
    assert {"log_odds", "log_probability", "probability"} <= {one.score for one in found}
    for name in ("log_probability", "probability"):
        same = [[m.value for m in found if (m.method, m.score) == ("hires_cam", score)] for score in ("log_odds", name)]
        assert same[0] == same[1]


def test_chance_is_shared_by_all_methods(small: Classifier, see: Callable[..., Sight]) -> None:
    """More of it costs the same for one method as for three, and no two hidings are looked at twice."""
    more = [
        _asked(Faithfulness(orders=10), sight) - _asked(Faithfulness(orders=4), sight)
        for sight in (see(small, "gradient"), see(small, "gradient", "input_x_gradient", "hires_cam"))
    ]
    assert more == [3 * 2 * 6] * 2


def test_the_standard_panel_takes_at_most_forty_pictures_an_image(small: Classifier, see: Callable[..., Sight]) -> None:
    assert _asked(Faithfulness(), see(small, *STANDARD_METHODS)) <= 40 * 3


def test_all_numbers_are_in_their_ranges(small: Classifier, see: Callable[..., Sight]) -> None:
    found = Faithfulness(steps=2, fill="blur").measure(see(small, "grad_cam", "gradient"))
    assert all(isinstance(one.value, float) and -1 <= one.value <= 1 for one in found)
    for method in (None, "grad_cam", "gradient"):
        for kind in ("deletion", "insertion"):
            middle, low, high = (_values(found, method, f"{kind}{end}") for end in ("", "/low", "/high"))
            assert all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True))


def test_an_empty_map_has_no_order(corner: Sight) -> None:
    """And leaves the others theirs."""
    maps = {**corner.maps, ("gradient", "log_odds"): torch.zeros(2, 7, 7)}
    found = Faithfulness().measure(Sight(corner.classifier, corner.tape, corner.methods, maps))
    assert {one.value for one in found if one.method == "gradient"} == {EMPTY}
    assert len(_values(found, "input_x_gradient", "deletion")) == 2


def test_an_image_smaller_than_the_grid_is_not_measured(corner: Sight) -> None:
    assert {one.value for one in Faithfulness(grid=30).measure(corner)} == {TOO_SMALL}


def test_nothing_is_measured_without_maps(corner: Sight) -> None:
    assert Faithfulness().measure(Sight(corner.classifier, corner.tape, {}, {})) == []
    assert Faithfulness().measure(Sight(corner.classifier, None, {}, {})) == []


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [("grid", 1, "an int >= 2"), ("share", 1.0, "above 0 and below 1"), ("orders", 1, "an int >= 2")],
)
def test_bad_parameters_are_named(name: str, value: object, rule: str) -> None:
    with pytest.raises(CallError, match=f"The '{name}' parameter of Faithfulness must be .*{rule}"):
        Faithfulness(**{name: value})  # type: ignore[arg-type]
