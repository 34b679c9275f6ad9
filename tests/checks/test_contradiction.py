"""Maps that tell the same story, and maps that do not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from fukusen.attacks import CornerShift
from fukusen.checks import ScoreDisagreement, Sight, TrackContradiction
from fukusen.models import Classifier, wrap


class Corner(nn.Module):
    """Two classes told apart by the brightness of the upper left quarter alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])[:, :, None, None])
            self.conv.bias.zero_()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images)[:, :, :12, :12].mean(dim=(2, 3))


def test_a_shift_makes_the_scores_disagree(small: Classifier, images: torch.Tensor, see: Callable[..., Sight]) -> None:
    """HiResCAM on the logit shows the corner, on the log-odds it does not."""
    before = [one.value for one in ScoreDisagreement().measure(see(small, "hires_cam"))]
    twin = CornerShift(100.0).twin(small, images)
    after = [one.value for one in ScoreDisagreement().measure(see(twin, "hires_cam"))]
    assert min(before) > 0.8
    assert max(after) < 0.6
    assert [one.item for one in ScoreDisagreement().measure(see(small, "hires_cam"))] == ["a", "b", "c"]


def test_maps_that_behaviour_bears_out_agree_with_it(see: Callable[..., Sight]) -> None:
    """Where only one quarter matters, insides and behaviour both point there."""
    model = wrap(Corner(), input_size=(3, 24, 24), head="softmax")
    found = TrackContradiction().measure(see(model, "hires_cam", "occlusion"))
    consensus = [one.value for one in found if one.method is None]
    assert min(consensus) > 0.3
    assert {one.method for one in found} == {None, "hires_cam"}


def test_it_says_nothing_without_both_tracks(small: Classifier, see: Callable[..., Sight]) -> None:
    """No behaviour, no contradiction."""
    assert TrackContradiction().measure(see(small, "grad_cam")) == []
