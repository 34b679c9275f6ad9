"""Shapes are checked while the tests run, in every worker: a guard that is switched off guards nothing."""

from __future__ import annotations

import pytest
import torch

from fukusen.arrays import Batch


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(Exception, match="Batch"):
        Batch(items=("one",), images=torch.zeros(3, 4, 4))


def test_a_right_shape_is_taken() -> None:
    assert Batch(items=("one",), images=torch.zeros(1, 3, 4, 4)).targets is None
