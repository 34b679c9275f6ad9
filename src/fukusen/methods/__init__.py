"""A tape and a score in, one signed map per image out."""

from fukusen.methods.ablation import AblationCam, ScoreCam
from fukusen.methods.attention import AttentionRelevance, AttentionRollout
from fukusen.methods.behaviour import Estimate
from fukusen.methods.cam import GradCam, GradCamPlusPlus, HiResCam, LayerCam, XGradCam
from fukusen.methods.deep_lift import DeepLift
from fukusen.methods.eigen_cam import EigenCam, EigenGradCam
from fukusen.methods.expected import ExpectedGradients
from fukusen.methods.finer_cam import FinerCam
from fukusen.methods.full_grad import FullGrad
from fukusen.methods.gradients import Gradient, InputXGradient
from fukusen.methods.guided import GuidedBackprop, GuidedGradCam
from fukusen.methods.method import (
    AtLayer,
    Explained,
    Method,
    Reading,
    also_at,
    is_class_agnostic,
    is_homogeneous,
    keeps_positive,
    layers_of,
    leak_share,
    methods,
    resolution_of,
)
from fukusen.methods.paths import IntegratedGradients, SmoothGrad
from fukusen.methods.perturbation import Occlusion, SlidingOcclusion
from fukusen.methods.random_masks import Rise
from fukusen.methods.relevance import Lrp
from fukusen.methods.rsi_grad_cam import RsiGradCam
from fukusen.methods.surrogates import KernelShap, Lime

__all__ = [
    "AblationCam",
    "AtLayer",
    "AttentionRelevance",
    "AttentionRollout",
    "DeepLift",
    "EigenCam",
    "EigenGradCam",
    "Estimate",
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
    "KernelShap",
    "LayerCam",
    "Lime",
    "Lrp",
    "Method",
    "Occlusion",
    "Reading",
    "Rise",
    "RsiGradCam",
    "ScoreCam",
    "SlidingOcclusion",
    "SmoothGrad",
    "XGradCam",
    "also_at",
    "is_class_agnostic",
    "is_homogeneous",
    "keeps_positive",
    "layers_of",
    "leak_share",
    "methods",
    "resolution_of",
]
