"""What everything registered keeps to: its spec makes it again, it travels, it says what it is and whose it is."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fukusen.agreement import agreements
from fukusen.attacks import attacks
from fukusen.checks import checks
from fukusen.errors import CallError, UnknownName
from fukusen.methods import methods
from fukusen.records import Spec
from fukusen.registry import Registry, spec_of
from fukusen.scores import scores

REGISTRIES: tuple[Registry[Any], ...] = (methods, scores, agreements, checks, attacks)


def _registered() -> Iterator[Any]:
    for registry in REGISTRIES:
        for name in registry.names():
            yield pytest.param(registry, name, id=f"{registry.kind}-{name}")


each_thing = pytest.mark.parametrize(("registry", "name"), list(_registered()))
each_registry = pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)


@each_thing
def test_it_is_a_frozen_dataclass_of_plain_values(registry: Registry[Any], name: str) -> None:
    """It can be built from its name alone, cannot be changed, and its fields are what JSON can hold."""
    thing = registry.build(name)
    assert type(thing) is registry.get(name)
    assert thing.__dataclass_params__.frozen
    for field in dataclasses.fields(thing):
        assert isinstance(getattr(thing, field.name), None | bool | int | float | str)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, field.name, None)


@each_thing
def test_its_spec_makes_it_again(registry: Registry[Any], name: str) -> None:
    """Also by way of JSON."""
    thing = registry.build(name)
    spec = spec_of(thing)
    assert spec.name == name
    assert registry.build(spec) == thing
    assert registry.build(Spec.from_json(json.loads(json.dumps(spec.as_json())))) == thing
    assert registry.build(thing) is thing


@each_thing
def test_it_hashes_compares_and_travels(registry: Registry[Any], name: str) -> None:
    """Equal things are one key, and a copy that was pickled is equal."""
    thing, other = registry.build(name), registry.build(name)
    assert thing == other
    assert hash(thing) == hash(other)
    assert pickle.loads(pickle.dumps(thing)) == thing  # noqa: S301
    assert copy.deepcopy(thing) == thing
    assert repr(thing).startswith(type(thing).__name__)


@each_thing
def test_it_is_documented(registry: Registry[Any], name: str) -> None:
    """One sentence first, its source last, and a line for every parameter."""
    thing = registry.get(name)
    text = inspect.cleandoc(thing.__doc__ or "")
    first = text.split("\n\n")[0]
    assert len(first.split()) >= 4
    assert first.rstrip().endswith((".", ":"))
    assert re.search(r"Source: ", text), f"{thing.__name__} names no source"
    assert thing.source in text
    for field in dataclasses.fields(thing):
        assert re.search(rf"^\s+{field.name}: ", text, flags=re.MULTILINE), f"{field.name} is not described"


@each_thing
def test_it_is_cited(registry: Registry[Any], name: str, root: Path) -> None:
    """Its source, and every key that its docstring names, is in the bibliography."""
    bibliography = (root / "docs" / "bibliography.bib").read_text(encoding="utf-8")
    keys = set(re.findall(r"^@\w+\{([^,\s]+),", bibliography, flags=re.MULTILINE))
    thing = registry.get(name)
    named = re.findall(r"\b[a-z]+(?:19|20)\d\d[a-z0-9]*\b", thing.__doc__ or "")
    assert {thing.source, *named} <= keys


@each_thing
def test_a_strange_parameter_is_refused(registry: Registry[Any], name: str) -> None:
    """By name."""
    with pytest.raises(UnknownName, match=f"parameter of the {registry.kind} '{name}' named 'colour'"):
        registry.build(Spec.of(name, colour=3))


@each_registry
def test_names_are_words(registry: Registry[Any]) -> None:
    """Snake case, each once."""
    names = registry.names()
    assert names
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)] == []


@each_registry
def test_an_unknown_name_suggests_the_nearest(registry: Registry[Any]) -> None:
    """A slip of the pen is answered with the name that was meant."""
    name = registry.names()[0]
    with pytest.raises(UnknownName, match=f"There is no {registry.kind} named '{name}x'. Did you mean '{name}'"):
        registry.build(f"{name}x")


@each_registry
def test_a_name_is_given_once(registry: Registry[Any]) -> None:
    """Another class cannot take it; the same class may be registered again."""
    name = registry.names()[0]
    thing = registry.get(name)
    assert registry.register(thing) is thing
    with pytest.raises(CallError, match=f"The {registry.kind} name '{name}' is taken by {thing.__module__}"):
        registry.register(type("Other", (), {"name": name, "source": "nobody"}))
    assert registry.get(name) is thing
