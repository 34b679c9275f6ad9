"""The lists of what there is."""

from __future__ import annotations

from fukusen.agreement import agreements
from fukusen.attacks import attacks
from fukusen.checks import checks
from fukusen.methods import methods as known_methods
from fukusen.scores import scores as known_scores


def list_methods() -> tuple[str, ...]:
    """The names of every way to make a map."""
    return known_methods.names()


def list_scores() -> tuple[str, ...]:
    """The names of every number that a map can explain."""
    return known_scores.names()


def list_agreements() -> tuple[str, ...]:
    """The names of every way to say how alike two maps are."""
    return agreements.names()


def list_checks() -> tuple[str, ...]:
    """The names of everything measured besides agreement."""
    return checks.names()


def list_attacks() -> tuple[str, ...]:
    """The names of every attack that can be played."""
    return attacks.names()
