"""Every fill again, slowly: what is kept stays, what is hidden is what the fill says, and images do not mix."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fukusen.errors import CallError
from fukusen.methods import KernelShap, Lime, Method, Occlusion, Rise, SlidingOcclusion
from fukusen.methods.fills import Fill, blurred, hiding, inpainted, require_fill

FILLS = get_args(Fill)
each_fill = pytest.mark.parametrize("fill", FILLS)


def _images(rows: int = 12, columns: int = 15, count: int = 2) -> Tensor:
    chance = torch.Generator().manual_seed(3)
    slope = torch.linspace(-1, 1, columns, dtype=torch.float64)
    return torch.randn(count, 3, rows, columns, generator=chance, dtype=torch.float64) / 3 + slope


def _window(rows: int = 12, columns: int = 15) -> Tensor:
    keep = torch.ones(1, rows, columns, dtype=torch.float64)
    keep[:, 3:9, 4:11] = 0
    return keep


def test_mean_and_zero_are_colours() -> None:
    """The image's own mean in each channel, and nothing."""
    images, nothing = _images(), torch.zeros(1, 12, 15, dtype=torch.float64)
    mean = hiding(images, "mean").through(nothing)
    for image, found in zip(images, mean, strict=True):
        for channel, cells in zip(image, found, strict=True):
            torch.testing.assert_close(cells, torch.full_like(cells, float(channel.sum()) / 180))
    assert not hiding(images, "zero").through(nothing).any()


def test_blur_is_a_gaussian() -> None:
    """Pixel by pixel, the weights of places beyond the edge left out."""
    images, sigma = _images(5, 6, 1), 1.3
    found = blurred(images, sigma)
    for row in range(5):
        for column in range(6):
            total, weights = torch.zeros(3, dtype=torch.float64), 0.0
            for i in range(5):
                for j in range(6):
                    weight = math.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * sigma**2))
                    total, weights = total + weight * images[0, :, i, j], weights + weight
            torch.testing.assert_close(found[0, :, row, column], total / weights)
    whole = hiding(_images(), "blur").through(torch.zeros(1, 12, 15, dtype=torch.float64))
    torch.testing.assert_close(whole, blurred(_images(), 12 / 16))


def test_noise_has_the_images_colours() -> None:
    """Mean and spread of each channel, the same for the same seed, and nothing of the picture."""
    images = _images(60, 80)
    nothing = torch.zeros(1, 60, 80, dtype=torch.float64)
    found = hiding(images, "noise", seed=4).through(nothing)
    assert torch.equal(found, hiding(images, "noise", seed=4).through(nothing))
    assert not torch.equal(found, hiding(images, "noise", seed=5).through(nothing))
    torch.testing.assert_close(found.mean(dim=(2, 3)), images.mean(dim=(2, 3)), rtol=0, atol=0.05)
    torch.testing.assert_close(found.std(dim=(2, 3)), images.std(dim=(2, 3)), rtol=0.05, atol=0)
    pair = torch.stack([found[0, 0].flatten(), images[0, 0].flatten()])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.05


def _harmonic(image: Tensor, known: Tensor) -> Tensor:
    """The exact solution: each unknown pixel the mean of its neighbours, as one linear system."""
    rows, columns = known.shape
    matrix, right = np.zeros((rows * columns,) * 2), np.zeros(rows * columns)
    for i in range(rows):
        for j in range(columns):
            k = i * columns + j
            if known[i, j]:
                matrix[k, k], right[k] = 1, image[i, j]
                continue
            for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                if 0 <= a < rows and 0 <= b < columns:
                    matrix[k, k] += 1
                    matrix[k, a * columns + b] -= 1
    return torch.from_numpy(np.linalg.solve(matrix, right).reshape(rows, columns))


@pytest.mark.parametrize("where", ["window", "corner", "scattered"])
def test_inpainting_is_near_the_harmonic_one(where: str) -> None:
    """Within a twentieth of the image's range everywhere, and a hundredth on average."""
    images = _images(20, 23)
    keep = torch.ones(1, 20, 23, dtype=torch.float64)
    if where == "window":
        keep[:, 5:15, 6:16] = 0
    elif where == "corner":
        keep[:, :9, :9] = 0
    else:
        keep = (torch.rand(1, 20, 23, generator=torch.Generator().manual_seed(1)) < 0.4).double()
    found = inpainted(images, keep)
    for image, filled in zip(images, found, strict=True):
        for channel, own in zip(image, filled, strict=True):
            off = (own - _harmonic(channel, keep[0] > 0)).abs() / (channel.max() - channel.min())
            assert float(off.max()) < 0.05
            assert float(off.mean()) < 0.01


def test_inpainting_of_nothing_is_the_mean() -> None:
    """Where an image has nothing to go on from; the other image of the batch has."""
    images = _images()
    keep = torch.stack([torch.zeros(12, 15), torch.ones(12, 15)]).double()
    found = inpainted(images, keep)
    torch.testing.assert_close(found[0], images[0].mean(dim=(1, 2), keepdim=True).expand(-1, 12, 15))
    assert torch.equal(found[1], images[1])


@each_fill
def test_what_is_kept_stays(fill: Fill) -> None:
    """To the bit; what is hidden does not; and half a mask is half of each."""
    images, keep = _images(), _window()
    shown = hiding(images, fill)
    found = shown.through(keep)
    kept = (keep > 0)[:, None].expand_as(images)
    assert torch.equal(found[kept], images[kept])
    assert not torch.isclose(found[~kept], images[~kept]).all()
    if fill != "inpaint":
        nothing = shown.through(torch.zeros_like(keep))
        torch.testing.assert_close(shown.through(torch.full_like(keep, 0.25)), 0.25 * images + 0.75 * nothing)


@each_fill
def test_a_batch_is_its_images(fill: Fill) -> None:
    """And each image may have its own mask."""
    images = _images(count=3)
    keep = torch.stack([_window()[0], _window()[0].flip(0, 1), torch.zeros(12, 15)]).double()
    together = hiding(images, fill).through(keep)
    for number in range(3):
        alone = hiding(images[number : number + 1], fill).through(keep[number : number + 1])
        torch.testing.assert_close(together[number], alone[0], rtol=0, atol=1e-12)


@settings(max_examples=15)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_no_fill_goes_beyond_the_image(rows: int, columns: int, share: float, seed: int) -> None:
    """Means, blurs and continuations lie within the range of what they are made of, whatever the image's shape."""
    chance = torch.Generator().manual_seed(seed)
    images = torch.randn(1, 2, rows, columns, generator=chance, dtype=torch.float64)
    keep = (torch.rand(1, rows, columns, generator=chance) < share).double()
    for fill in ("mean", "blur", "inpaint"):
        found = hiding(images, fill).through(keep)
        assert bool(found.isfinite().all())
        assert bool((found <= images.amax(dim=(2, 3), keepdim=True) + 1e-12).all())
        assert bool((found >= images.amin(dim=(2, 3), keepdim=True) - 1e-12).all())


@pytest.mark.parametrize("kind", [Occlusion, SlidingOcclusion, Rise, Lime, KernelShap])
def test_every_method_that_hides_takes_every_fill(kind: type[Method]) -> None:
    """Each by its name."""
    for fill in FILLS:
        assert kind(fill=fill).fill == fill


def test_any_other_fill_is_refused() -> None:
    """By name."""
    with pytest.raises(CallError) as caught:
        require_fill("Rise", "ink")
    rule = "must be 'mean', 'zero', 'blur', 'noise' or 'inpaint'. Got 'ink' instead."
    assert str(caught.value) == f"The 'fill' parameter of Rise {rule}"
