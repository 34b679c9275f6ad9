"""Attacks that train the weights: what is to be learnt, and how, while the answers stay."""

from fukusen.attacks.training.heo import CenterMass, FineTune, Location, ShamBorder, TopK

__all__ = ["CenterMass", "FineTune", "Location", "ShamBorder", "TopK"]
