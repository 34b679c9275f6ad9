"""The tree of errors: who can mend what, in messages that name the value, the rule and the remedy."""

from __future__ import annotations

import re

import pytest

from fukusen import errors
from fukusen.errors import (
    CallError,
    DataError,
    FukusenError,
    ModelError,
    PlanError,
    StoreError,
    UnknownName,
    require,
)


def _drawn() -> dict[str, str]:
    """Each error and its parent as the module's docstring draws them."""
    above: list[tuple[int, str]] = []
    found = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│├└─ ]*)([A-Z]\w+)", line)
        if match:
            depth = len(match[1])
            above = [(level, name) for level, name in above if level < depth]
            found[match[2]] = above[-1][1] if above else "Exception"
            above.append((depth, match[2]))
    return found


def test_the_tree_is_as_drawn() -> None:
    """Every class of the module stands in its docstring, under the one that it inherits from."""
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    own = {name: value for name, value in classes.items() if value.__module__ == errors.__name__}
    assert {name: value.__bases__[0].__name__ for name, value in own.items()} == _drawn()
    assert len(own) == 7


def test_a_bad_call_is_a_value_error_too() -> None:
    """Code that knows nothing of us catches it as what it is; the others are ours alone."""
    assert issubclass(UnknownName, ValueError)
    assert not any(issubclass(kind, ValueError) for kind in (PlanError, ModelError, DataError, StoreError))
    with pytest.raises(FukusenError):
        raise CallError("no")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("grad_kam", "There is no method named 'grad_kam'. Did you mean 'grad_cam'? Known: grad_cam, lrp, occlusion."),
        (
            "Occlusion",
            "There is no method named 'Occlusion'. Did you mean 'occlusion'? Known: grad_cam, lrp, occlusion.",
        ),
        ("zzz", "There is no method named 'zzz'. Known: grad_cam, lrp, occlusion."),
        ("", "There is no method named ''. Known: grad_cam, lrp, occlusion."),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name: str, said: str) -> None:
    """Only one that is near, and all that are known in alphabetical order."""
    assert str(UnknownName("method", name, ["occlusion", "lrp", "grad_cam"])) == said


def test_a_bad_parameter_is_said_in_one_sentence() -> None:
    """The parameter, its owner, the rule and the value; nothing where the rule holds."""
    require(True, "Occlusion", "grid", "an int >= 1", 7)
    with pytest.raises(CallError) as caught:
        require(False, "Occlusion", "grid", "an int >= 1", "7")
    assert str(caught.value) == "The 'grid' parameter of Occlusion must be an int >= 1. Got '7' instead."
