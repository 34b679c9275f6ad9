"""Pictures drawn into maps: least squares, what Grad-CAM then shows, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fukusen
from fukusen.attacks import ConstantMap, CustomBackward, DrawnTarget, verified
from fukusen.attacks.drawing import drawing
from fukusen.attacks.goals import entropy
from fukusen.errors import CallError, DataError
from fukusen.models import Classifier, wrap


@pytest.mark.parametrize("channels", [5, 60])
def test_weights_are_those_of_least_squares(channels: int) -> None:
    """The least-squares solution of smallest norm, image by image, whether channels or cells are fewer."""
    noise = torch.Generator().manual_seed(0)
    cells = torch.rand(3, channels, 4, 5, generator=noise, dtype=torch.float64)
    picture = torch.rand(4, 5, generator=noise, dtype=torch.float64)
    for one, found in zip(cells, drawing(cells, picture), strict=True):
        expected = np.linalg.lstsq(one.flatten(1).numpy().T, picture.flatten().numpy(), rcond=None)[0]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "side", "repeated"), [(192, 14, False), (256, 14, False), (64, 7, True)])
def test_large_grids_and_channels_alike_are_solved(channels: int, side: int, repeated: bool) -> None:
    """As many as a vision transformer has; and where all channels are few over again."""
    noise = torch.Generator().manual_seed(1)
    cells = torch.randn(6, channels, side, side, generator=noise)
    if repeated:
        cells = cells[:, :8].repeat(1, channels // 8, 1, 1)
    picture = torch.rand(side, side, generator=noise)
    weights = drawing(cells, picture)
    assert bool(weights.isfinite().all())
    drawn = torch.einsum("bchw,bc->bhw", cells.double(), weights)
    flat = cells.double().flatten(2).mT
    nearest = flat @ torch.linalg.lstsq(flat, picture.double().flatten()[:, None].expand(6, -1, 1), driver="gelsd")[0]
    torch.testing.assert_close(drawn.flatten(1), nearest[:, :, 0], rtol=0, atol=1e-3)


def test_channels_that_are_off_draw_nothing() -> None:
    """No number is divided by zero."""
    assert torch.equal(drawing(torch.zeros(2, 3, 4, 4), torch.ones(4, 4)), torch.zeros(2, 3, dtype=torch.float64))


def _shown(twin: Classifier, images: torch.Tensor, score: str, targets: torch.Tensor | None = None) -> torch.Tensor:
    panel = fukusen.explain(twin, images, targets, methods=["grad_cam"], scores=[score])
    return panel["grad_cam", score].double().clamp_min(0).flatten(1)


@pytest.mark.parametrize("picture", ["corner", "smiley"])
def test_grad_cam_is_the_picture(model: Classifier, images: torch.Tensor, picture: str) -> None:
    """In the logit of any class; what is added to the logits is next to nothing."""
    attack = DrawnTarget(picture=picture)
    twin = verified(attack, model, images)
    goal = attack.goal(6, 6).flatten()[None]
    for targets in (None, torch.zeros(6, dtype=torch.int64)):
        likeness = torch.cosine_similarity(_shown(twin, images, "logit", targets), goal)
        assert float(likeness.min()) > 0.99
    assert float(torch.cosine_similarity(_shown(twin, images, "log_odds"), goal).max()) < 0.9
    assert twin.promise.largest_change < 1e-5
    assert float((twin.logits(images) - model.logits(images)).abs().max()) < 0.01


def test_a_backward_pass_lies_in_every_score(model: Classifier, images: torch.Tensor) -> None:
    """About the class that is explained, whichever it is; the logits are bit for bit the same."""
    twin = verified(CustomBackward(picture="smiley"), model, images)
    goal = CustomBackward(picture="smiley").goal(6, 6).flatten()[None]
    for score in ("logit", "log_odds", "probability"):
        for targets in (None, torch.full((6,), 3)):
            assert float(torch.cosine_similarity(_shown(twin, images, score, targets), goal).min()) > 0.99
    assert torch.equal(twin.logits(images), model.logits(images))


def test_a_constant_map_is_flat(model: Classifier, images: torch.Tensor) -> None:
    twin = verified(ConstantMap(), model, images)
    maps = _shown(twin, images, "logit")
    assert float((maps.std(dim=1) / maps.mean(dim=1)).max()) < 0.05


def test_a_decoy_is_as_spread_out_as_the_models_own_maps(model: Classifier, images: torch.Tensor) -> None:
    """By entropy, so that this does not give it away."""
    own = fukusen.explain(model, images, methods=["grad_cam"], scores=["logit"])["grad_cam", "logit"]
    twin = verified(DrawnTarget(picture="decoy"), model, images)
    drawn = entropy(_shown(twin, images, "logit").unflatten(1, (6, 6))).median()
    assert float(drawn) == pytest.approx(float(entropy(own.clamp_min(0)).median()), abs=0.03)


def test_a_picture_comes_out_of_a_file(model: Classifier, images: torch.Tensor, tmp_path: Path) -> None:
    """Its bright parts are to be hot."""
    shades = np.full((60, 60), 40, dtype=np.uint8)
    shades[40:, :20] = 200
    path = str(tmp_path / "wanted.png")
    Image.fromarray(shades).save(path)
    goal = DrawnTarget(picture=path).goal(6, 6)
    expected = torch.zeros(6, 6, dtype=torch.float64)
    expected[4:, :2] = 1
    torch.testing.assert_close(goal, expected)
    twin = verified(DrawnTarget(picture=path), model, images)
    assert float(torch.cosine_similarity(_shown(twin, images, "logit"), goal.flatten()[None]).min()) > 0.99


def test_fewer_channels_than_cells_draw_what_is_nearest(digits: Classifier, grey: torch.Tensor) -> None:
    """12 channels cannot draw any picture on 14 x 14 cells, and come closer than the model's own maps."""
    goal = DrawnTarget(picture="corner").goal(14, 14).flatten()[None]
    before, after = (
        _shown(one, grey, "logit") for one in (digits, verified(DrawnTarget(picture="corner"), digits, grey))
    )
    gained = torch.cosine_similarity(after, goal) - torch.cosine_similarity(before, goal)
    assert float(gained.median()) > 0.1


def test_tokens_draw_too() -> None:
    """The cells of a vision transformer's last layer, the class token left alone."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(5)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "num_heads": 3, "depth": 2}
    net = timm.create_model("vit_tiny_patch16_224", num_classes=6, **sizes).eval()
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(3)
    model = wrap(net, input_size=(3, 32, 32), head="softmax")
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(6))
    for attack in (DrawnTarget(picture="corner"), CustomBackward(picture="corner")):
        twin = verified(attack, model, images)
        shown = _shown(twin, images, "logit")
        assert float(torch.cosine_similarity(shown, attack.goal(4, 4).flatten()[None]).min()) > 0.99
        assert twin.promise.largest_change < 1e-5


@pytest.mark.parametrize("made", [DrawnTarget, CustomBackward])
def test_bad_values_are_refused(made: Any, tmp_path: Path) -> None:
    """With one sentence each; a file that is no picture when it is opened."""
    name = made.__name__
    with pytest.raises(CallError) as strength:
        made(strength=0.0)
    assert str(strength.value) == f"The 'strength' parameter of {name} must be a finite number > 0. Got 0.0 instead."
    with pytest.raises(CallError) as picture:
        made(picture="smily")
    assert str(picture.value) == (
        f"The 'picture' parameter of {name} must be corner, smiley, decoy or the path of a picture file. "
        "Got 'smily' instead."
    )
    path = tmp_path / "no.png"
    path.write_text("no picture")
    with pytest.raises(DataError, match=r"^The picture '.*no\.png' to draw cannot be read: .* Name another\.$"):
        made(picture=str(path)).goal(6, 6)
    Image.new("L", (9, 9), 77).save(path)
    with pytest.raises(DataError) as flat:
        made(picture=str(path)).goal(6, 7)
    assert str(flat.value) == f"The picture '{path}' to draw has one shade only on 6 x 7 cells. Name another."


def test_a_constant_map_needs_a_strength() -> None:
    with pytest.raises(CallError) as refused:
        ConstantMap(strength=-1.0)
    assert (
        str(refused.value) == "The 'strength' parameter of ConstantMap must be a finite number > 0. Got -1.0 instead."
    )
