"""What the tests of this room share: a way to give a parameter a type that beartype would refuse first."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def _born(kind: type, **parameters: object) -> object:
    thing = object.__new__(kind)
    for name, value in parameters.items():
        object.__setattr__(thing, name, value)
    thing.__post_init__()
    return thing


@pytest.fixture(scope="session")
def born() -> Callable[..., object]:
    """Makes a thing as its class does without types checked in tests: fields first, then ``__post_init__``."""
    return _born
