"""The parts of an image: cells, or patches that follow its edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fukusen.errors import CallError
from fukusen.methods.superpixels import require_parts, superpixels


def test_cells_are_as_square_as_may_be() -> None:
    """All of about the same size, numbered without gaps, and no more than there are pixels."""
    for shape, asked, expected in (
        ((12, 10), 6, 6),
        ((8, 8), 49, 49),
        ((6, 24), 4, 4),
        ((2, 3), 49, 6),
        ((50, 1), 4, 4),
        ((12, 10), 3, 2),
    ):
        labels = superpixels(torch.zeros(2, 1, *shape), asked, "cells")
        assert isinstance(labels, Tensor)
        assert labels.shape == (2, *shape)
        sizes = labels[0].flatten().bincount()
        assert len(sizes) == expected
        assert int(sizes.min()) > 0
        assert int(sizes.max()) <= 4 * int(sizes.min())
    found = superpixels(torch.zeros(1, 1, 12, 10), 6, "cells")
    assert isinstance(found, Tensor)
    assert found[0].tolist() == [[row // 4 * 2 + column // 5 for column in range(10)] for row in range(12)]


@pytest.mark.parametrize("channels", [1, 3])
def test_superpixels_follow_edges(channels: int) -> None:
    """A bright disk is not in the same part as its surroundings, and each image has its own parts."""
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    disk = ((rows - 20) ** 2 + (columns - 17) ** 2 < 90).double()
    images = torch.stack([disk.expand(channels, -1, -1), torch.zeros(channels, 40, 40).double()])
    labels = superpixels(images, 12, "slic")
    assert isinstance(labels, Tensor)
    for label in labels:
        assert label.unique().tolist() == list(range(int(label.max()) + 1))
    mixed = sum(min(int(disk[labels[0] == part].sum()), int((1 - disk)[labels[0] == part].sum())) for part in range(12))
    assert mixed <= 20
    alone = superpixels(images[:1], 12, "slic")
    assert isinstance(alone, Tensor)
    assert torch.equal(alone[0], labels[0])


def test_another_way_to_cut_is_refused() -> None:
    """By name."""
    with pytest.raises(CallError) as caught:
        require_parts("Lime", "pixels")
    assert str(caught.value) == "The 'parts' parameter of Lime must be 'cells' or 'slic'. Got 'pixels' instead."
