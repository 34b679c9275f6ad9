"""A heatmap laid over its picture, and many of them on one sheet; numbers in, pixels out."""

from fukusen.pictures.heat import RAMP, Floats, cells_of, centre_of, flattened, laid_over, weight_of
from fukusen.pictures.sheet import Cell, Sheet, contact_sheet

__all__ = [
    "RAMP",
    "Cell",
    "Floats",
    "Sheet",
    "cells_of",
    "centre_of",
    "contact_sheet",
    "flattened",
    "laid_over",
    "weight_of",
]
