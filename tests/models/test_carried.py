"""What stands beside an exported network."""

from __future__ import annotations

import json

import pytest
from torch import nn

from fukusen.errors import ModelError
from fukusen.models import Head, wrap
from fukusen.models.carried import completed, written
from fukusen.models.found import Found
from fukusen.models.preprocessing import CenterCrop, Squash

NET = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).eval()


@pytest.mark.parametrize("preprocess", [CenterCrop(8), Squash(8, 0.9, (0.5,) * 3, (0.5,) * 3, 3)])
def test_it_is_read_as_it_was_written(preprocess: CenterCrop | Squash) -> None:
    model = wrap(NET, preprocess, ["はい", "no"], head="softmax")
    found = completed(Found(NET, CenterCrop(8), notes=("assumed",)), written(model, "Made by hand."))
    assert (found.preprocess, found.classes, found.head) == (preprocess, ("はい", "no"), "softmax")
    assert found.notes == ("The file says of itself: Made by hand.",)


def test_what_was_assumed_is_assumed_again() -> None:
    model = wrap(NET, CenterCrop(8))
    assert model.head == Head("softmax", assumed=True)
    assert completed(Found(NET), written(model, "Made.")).head is None


def test_files_without_it_are_as_they_were() -> None:
    found = Found(NET)
    assert completed(found, "") is found


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", json.dumps({"preprocess": {"kind": "Blur"}, "classes": [], "head": None})]
)
def test_damage_is_said(text: str) -> None:
    with pytest.raises(ModelError, match=r"^What fukusen has written beside the network in this file cannot be read"):
        completed(Found(NET), text)
