"""Whatever the user has made a Classifier: logits out, layers by name, preprocessing, head kind, a digest."""

from fukusen.models.classifier import INPUT, Capture, Classifier
from fukusen.models.heads import Head, HeadKind
from fukusen.models.layers import Layer
from fukusen.models.loading import load, model_specs
from fukusen.models.naming import layer_named
from fukusen.models.pictures import open_picture
from fukusen.models.wrapping import wrap

__all__ = [
    "INPUT",
    "Capture",
    "Classifier",
    "Head",
    "HeadKind",
    "Layer",
    "layer_named",
    "load",
    "model_specs",
    "open_picture",
    "wrap",
]
