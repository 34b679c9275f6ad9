"""A tape and a score in, one signed map per image out."""

from fukusen.methods.attention import AttentionRelevance, AttentionRollout
from fukusen.methods.cam import GradCam, GradCamPlusPlus, HiResCam, LayerCam, XGradCam
from fukusen.methods.deep_lift import DeepLift
from fukusen.methods.eigen_cam import EigenCam, EigenGradCam
from fukusen.methods.expected import ExpectedGradients
from fukusen.methods.finer_cam import FinerCam
from fukusen.methods.full_grad import FullGrad
from fukusen.methods.gradients import Gradient, InputXGradient
from fukusen.methods.guided import GuidedBackprop, GuidedGradCam
from fukusen.methods.method import Explained, Method, Reading, is_class_agnostic, leak_share, methods
from fukusen.methods.paths import IntegratedGradients, SmoothGrad
from fukusen.methods.perturbation import Occlusion
from fukusen.methods.relevance import Lrp
from fukusen.methods.rsi_grad_cam import RsiGradCam

__all__ = [
    "AttentionRelevance",
    "AttentionRollout",
    "DeepLift",
    "EigenCam",
    "EigenGradCam",
    "ExpectedGradients",
    "Explained",
    "FinerCam",
    "FullGrad",
    "GradCam",
    "GradCamPlusPlus",
    "Gradient",
    "GuidedBackprop",
    "GuidedGradCam",
    "HiResCam",
    "InputXGradient",
    "IntegratedGradients",
    "LayerCam",
    "Lrp",
    "Method",
    "Occlusion",
    "Reading",
    "RsiGradCam",
    "SmoothGrad",
    "XGradCam",
    "is_class_agnostic",
    "leak_share",
    "methods",
]
