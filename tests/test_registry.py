"""A name for a thing and the thing back from it, also for those of other packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from fukusen.errors import CallError, UnknownName, require
from fukusen.records import Spec
from fukusen.registry import Named, Registry, spec_of


@dataclass(frozen=True)
class Hiding:
    """A thing with parameters."""

    grid: int = 7
    fill: str = "mean"
    name: ClassVar[str] = "hiding"
    source: ClassVar[str] = "nobody2026"

    def __post_init__(self) -> None:
        require(self.grid >= 1, "Hiding", "grid", "an int >= 1", self.grid)


@dataclass(frozen=True)
class Looking:
    """A thing without parameters."""

    name: ClassVar[str] = "looking"
    source: ClassVar[str] = "nobody2026"


@dataclass
class Entry:
    """An entry point of another package, and how often it was loaded."""

    act: Callable[[], object]
    loaded: list[str] = field(default_factory=list)

    def load(self) -> object:
        self.loaded.append("loaded")
        return self.act()


Found = Callable[[dict[str, list[Entry]]], list[str]]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Found:
    """Let other packages have these entry points, by group; says which groups were asked for."""
    asked: list[str] = []

    def install(groups: dict[str, list[Entry]]) -> list[str]:
        def entry_points(*, group: str) -> list[Entry]:
            asked.append(group)
            return groups.get(group, [])

        monkeypatch.setattr("fukusen.registry.entry_points", entry_points)
        return asked

    return install


@pytest.fixture
def things() -> Registry[Any]:
    """A registry of its own with both things."""
    registry: Registry[Any] = Registry("method")
    registry.register(Hiding)
    registry.register(Looking)
    return registry


def test_names_come_in_the_order_of_registration(things: Registry[Any]) -> None:
    """And each leads to its class."""
    assert things.names() == ("hiding", "looking")
    assert (things.get("hiding"), things.get("looking")) == (Hiding, Looking)


def test_registering_decorates(things: Registry[Any]) -> None:
    """The class is handed back as it is, and the same class may be registered again."""
    assert things.register(Hiding) is Hiding
    assert things.names() == ("hiding", "looking")
    assert isinstance(Hiding(), Named)


def test_a_name_is_given_once(things: Registry[Any]) -> None:
    """Another class of that name is refused, with the one that has it, which stays."""

    class Other:
        name = "hiding"

    with pytest.raises(CallError) as caught:
        things.register(Other)
    assert str(caught.value) == f"The method name 'hiding' is taken by {__name__}.Hiding."
    assert things.get("hiding") is Hiding


@pytest.mark.parametrize(
    ("spec", "thing"),
    [
        ("hiding", Hiding()),
        (Spec("hiding"), Hiding()),
        (Spec.of("hiding", grid=3), Hiding(grid=3)),
        (Hiding(fill="grey"), Hiding(fill="grey")),
        ("looking", Looking()),
    ],
)
def test_a_thing_is_built_from_what_names_it(things: Registry[Any], spec: Any, thing: Any) -> None:
    """A name stands for its default parameters, and a thing for itself."""
    assert things.build(spec) == thing


@pytest.mark.parametrize("thing", [Hiding(), Hiding(3, "grey"), Looking()])
def test_a_spec_builds_an_equal_thing(things: Registry[Any], thing: Any) -> None:
    """Its fields are its identity."""
    assert things.build(spec_of(thing)) == thing
    assert spec_of(Hiding(3)) == Spec.of("hiding", grid=3, fill="mean")


@pytest.mark.parametrize(
    ("spec", "kind", "said"),
    [
        ("hidding", UnknownName, "There is no method named 'hidding'. Did you mean 'hiding'? Known: hiding, looking."),
        (
            Spec.of("hiding", gird=3),
            UnknownName,
            "There is no parameter of the method 'hiding' named 'gird'. Did you mean 'grid'? Known: fill, grid.",
        ),
        (Spec.of("hiding", grid=0), CallError, "The 'grid' parameter of Hiding must be an int >= 1. Got 0 instead."),
    ],
)
def test_what_cannot_be_built_is_said(things: Registry[Any], spec: Any, kind: type[CallError], said: str) -> None:
    """The name, the parameter or the value, and what there is instead."""
    with pytest.raises(CallError) as caught:
        things.build(spec)
    assert type(caught.value) is kind
    assert str(caught.value) == said


@pytest.mark.parametrize("ask", [lambda it: it.names(), lambda it: it.get("looking"), lambda it: it.build("looking")])
def test_other_packages_are_found_at_the_first_question(installed: Found, ask: Callable[[Any], object]) -> None:
    """Their entry points are loaded once, and what these register is there like our own."""
    registry: Registry[Any] = Registry("method")
    entry = Entry(lambda: registry.register(Looking))
    asked = installed({"fukusen.methods": [entry], "fukusen.scores": [Entry(lambda: registry.register(Hiding))]})
    assert asked == []
    ask(registry)
    assert registry.names() == ("looking",)
    assert (asked, entry.loaded) == (["fukusen.methods"], ["loaded"])


def test_other_packages_come_after_our_own(installed: Found, things: Registry[Any]) -> None:
    """And cannot take a name that is given."""

    @dataclass(frozen=True)
    class Further:
        """A thing of another package."""

        name: ClassVar[str] = "further"
        source: ClassVar[str] = "nobody2026"

    installed({"fukusen.methods": [Entry(lambda: things.register(Further))]})
    assert things.names() == ("hiding", "looking", "further")

    class Thief:
        name = "looking"

    other: Registry[Any] = Registry("method")
    other.register(Looking)
    installed({"fukusen.methods": [Entry(lambda: other.register(Thief))]})
    with pytest.raises(CallError) as caught:
        other.names()
    assert str(caught.value) == f"The method name 'looking' is taken by {__name__}.Looking."


def test_a_group_is_named_after_its_kind(installed: Found) -> None:
    """In the plural, as the documentation says."""
    asked = installed({})
    for kind in ("method", "score", "agreement", "check", "attack"):
        assert Registry(kind).names() == ()
    assert asked == [f"fukusen.{kind}s" for kind in ("method", "score", "agreement", "check", "attack")]
