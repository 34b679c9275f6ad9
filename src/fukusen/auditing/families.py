"""Which methods' heatmaps may be held against those of another family, on an honest network too."""

from __future__ import annotations

from fukusen.methods import is_class_agnostic, is_homogeneous, methods

CLASS_ACTIVATION, PIXEL_GRADIENT = "cam", "gradient"


def family_of(method: str) -> str:
    """The family of a method that is registered."""
    return methods.get(method).family


def is_telling(method: str) -> bool:
    """Whether its maps are of the network's insides, and others for other classes."""
    if "@" in method:
        return False
    kind = methods.get(method)
    return kind.track == "inner" and not is_class_agnostic(kind)


def is_judged(method: str) -> bool:
    """Whether an honest network's maps may be asked to show about what those of others do.

    Relevance and maps with passes of their own may not: on honest networks too they often do not.
    """
    if not is_telling(method):
        return False
    kind = methods.get(method)
    return kind.family in (CLASS_ACTIVATION, PIXEL_GRADIENT) and kind.single_pass and is_homogeneous(kind)
