"""Two maps of one image in, one number or a reason out."""

from fukusen.agreement.agreement import Agreement, agreements, compare
from fukusen.agreement.center_shift import CenterShift
from fukusen.agreement.cosine import Cosine
from fukusen.agreement.pairs import Pairs
from fukusen.agreement.reading import Reading, heatmaps
from fukusen.agreement.spearman import Spearman
from fukusen.agreement.ssim import Ssim
from fukusen.agreement.top_iou import TopIou
from fukusen.agreement.wasserstein import Wasserstein1

__all__ = [
    "Agreement",
    "CenterShift",
    "Cosine",
    "Pairs",
    "Reading",
    "Spearman",
    "Ssim",
    "TopIou",
    "Wasserstein1",
    "agreements",
    "compare",
    "heatmaps",
]
