"""A tape and a score in, one signed map per image out."""

from fukusen.methods.cam import GradCam, GradCamPlusPlus, HiResCam, LayerCam
from fukusen.methods.gradients import Gradient, InputXGradient
from fukusen.methods.method import Explained, Method, Reading, methods
from fukusen.methods.paths import IntegratedGradients, SmoothGrad
from fukusen.methods.perturbation import Occlusion
from fukusen.methods.relevance import Lrp

__all__ = [
    "Explained",
    "GradCam",
    "GradCamPlusPlus",
    "Gradient",
    "HiResCam",
    "InputXGradient",
    "IntegratedGradients",
    "LayerCam",
    "Lrp",
    "Method",
    "Occlusion",
    "Reading",
    "SmoothGrad",
    "methods",
]
