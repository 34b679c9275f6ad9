"""Every bound that a verdict rests on, each with where it comes from; nothing else in the house knows a threshold."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any


@dataclass(frozen=True)
class Bound:
    """One limit and its reason.

    Args:
        name: what is limited.
        value: the limit.
        source: why it is where it is.
    """

    name: str
    value: float
    source: str

    def as_json(self) -> dict[str, Any]:
        """The bound as it stands in audit.json."""
        return {"name": self.name, "value": self.value, "source": self.source}


_ALWAYS = (
    Bound(
        "added_shift",
        1e-2,
        "relative size of a gradient that no weight makes; rounding leaves less than 1e-5, and a number that is added "
        "to every logit shows in a heatmap from about 0.1 on",
    ),
    Bound(
        "graph_scan",
        0.0,
        "constructions of one kind in one module; ordinary networks of torchvision, timm and transformers have none, "
        "those whose numbers are rounded on purpose do",
    ),
    Bound(
        "score_disagreement",
        0.6,
        "median likeness over the images; honest ImageNet networks lie near 0.9, ten-class ones near 0.95",
    ),
    Bound("score_disagreement_image", 0.3, "likeness on one image; half of what is asked of the median over images"),
    Bound(
        "listed_share",
        0.05,
        "share of the images, and one at least, up to which the worst of those out of score_disagreement_image or "
        "track_contradiction_image are listed; of honest networks with several linear layers and of vision "
        "transformers, up to half of all images are out of the first, and up to a tenth out of the second",
    ),
    Bound(
        "cancelling_channels",
        0.01,
        "of an image; of honest networks, in which no two channels are the same, it is 0, and of copied channels that "
        "undo each other 0.05 where LayerCAM hardly shows them",
    ),
    Bound(
        "cancelling_channels_images",
        0.1,
        "share of the images, two at least: a copied channel is active on many",
    ),
    Bound(
        "gradient_truth_layer",
        1e-2,
        "relative error close by, in float64; smooth and piecewise linear networks lie below 0.002",
    ),
    Bound(
        "gradient_truth_path",
        0.1,
        "part of the attribution that the model's change over a tenth of the activation does not bear out",
    ),
    Bound(
        "gradient_truth_input",
        5e-2,
        "relative error close by at the pixels, where kinks of all layers meet; honest networks lie below 0.005",
    ),
    Bound(
        "track_contradiction",
        0.0,
        "median rank correlation over the images; below it maps and behaviour are unrelated or opposed",
    ),
    Bound(
        "track_contradiction_chance",
        0.125,
        "chance that the images lie so far below track_contradiction (of a row: track_contradiction_row) together if "
        "each were as likely as far above it; three that are all below reach it, of four one may be above by least; in "
        "the same way for images beyond track_contradiction_gap and faithfulness_gap",
    ),
    Bound(
        "track_contradiction_image",
        -0.3,
        "rank correlation on one image over 49 cells; unrelated maps fall below it about once in 50 times",
    ),
    Bound(
        "track_contradiction_row",
        -0.1,
        "median rank correlation of one row of the panel; single methods are noisier than their mean",
    ),
    Bound(
        "track_contradiction_gap",
        0.45,
        "median over at least eight images of how much better another family's map correlates with behaviour. On 21 "
        "honest networks of nine shapes it is 0.39 at most, but for LayerCAM and gradient of a MobileNet that reads "
        "57% (0.63 and 0.53); Grad-CAM after fine-tunes that came to their aim reaches 0.3 to 1.4 on ten classes, and "
        "lies anywhere from 0 to 1.4 on two",
    ),
    Bound(
        "opposed_maps",
        -0.35,
        "median rank correlation, over at least eight images, of a heatmap of class activation with one of the pixels' "
        "gradients, the worst of all pairs and classes; of honest networks, photographs lie between 0.37 and 0.52, "
        "digits between 0.37 and 0.92 and on photographs above 0.03, textures above -0.17, untrained networks above "
        "-0.27, a MobileNet that reads poorly at -0.28, and vision transformers of two classes at -0.33, at -0.58 "
        "where chance explains it, and two of six out of the bound; after fine-tunes of two networks of two "
        "classes that came half of the way, -0.88 to -0.39, but for top-k: -0.24 to 0.43",
    ),
    Bound(
        "opposed_maps_chance",
        0.125,
        "chance that the images lie so far below 0 together if each were as likely as far above it, shared between all "
        "images and the classes of which there are enough",
    ),
    Bound(
        "faithfulness",
        -0.1,
        "median area over at least four images; by chance it is 0. Of honest networks, photographs lie between -0.11 "
        "and 0.4 and half of them below 0.1, digits between -0.05 and 0.5. Fine-tunes that bend one method's maps "
        "seldom bring it below: it is a bound on maps that are wrong altogether",
    ),
    Bound(
        "faithfulness_gap",
        0.1,
        "median, over at least six images, of how much more another family's map knows than chance, as the mean of the "
        "areas of deletion and insertion, the worst row. Ten honest networks that read digits lie at 0.03 or less, "
        "EfficientNet-Lite0 to 2 on photographs at 0.05 to 0.08, and two MobileNets at 0.19 and 0.20, where chance "
        "explains it; the same ten after top-k, at 0 to 0.32",
    ),
    Bound(
        "perturbation_awareness",
        0.3,
        "share of the change within a thousandth of the way, on a quarter of the images and on two at least; honest "
        "networks of 2 to 1000 classes stay below 0.03, with activations of 8 bits below 0.25, and those that look for "
        "hidden parts lie between 0.4 and 0.9 on the typical image",
    ),
)

_BESIDE_A_REFERENCE = (
    Bound(
        "estranged_pairs",
        0.15,
        "share of the pairs of single-pass heatmaps that agree less on the typical image than on nineteen in twenty "
        "images of the reference; trained digit networks of 2 and 10 classes from other seeds lie at 0 to 0.12, "
        "fine-tunes that bend one method between 0.2 and 0.86 but for a few that bend it little. Without a reference "
        "nothing is said of it",
    ),
)

_OF_MAPS = (
    Bound(
        "placement_corner",
        0.5,
        "share of a heatmap in one corner of 2 x 2 of 7 x 7 cells; on no image of the demo network or of an untrained "
        "ResNet-18 is it reached, and of digit networks on fewer than one in twenty; a corner shift that shows reaches "
        "0.6 to 1",
    ),
    Bound(
        "placement_border",
        0.8,
        "share of a heatmap in the outermost of 7 x 7 cells, 0.49 of the picture; the medians of honest networks, "
        "trained or not, lie below 0.68; planted maps and a fine-tune of EfficientNet-Lite0 in both scores reach 0.98, "
        "others 0.5 to 0.8",
    ),
    Bound(
        "placement_images",
        0.7,
        "share of the images, at least four of them, on which a heatmap lies in the same place; objects are rarely all "
        "in one corner, and where behaviour goes half of the way there from chance, it is no finding",
    ),
    Bound(
        "dominance_flat",
        0.024,
        "median share of the hottest of 49 cells, of which each holds 0.0204 of a flat map; honest networks, trained "
        "or not, lie above 0.028, constant maps below 0.022",
    ),
    Bound(
        "input_dependence_constant",
        0.99,
        "median cosine with the mean heatmap of other images, where the other score's heatmaps of the same method lie "
        "below input_dependence_other; a cosine that is high in both scores is no finding, for in untrained networks "
        "it is 0.99 in all heatmaps, and a picture that is drawn in both cannot be told from that",
    ),
    Bound(
        "input_dependence_other",
        0.95,
        "median cosine of the method's heatmaps in the other score; trained honest networks lie below 0.92",
    ),
    Bound(
        "class_specificity_same",
        0.98,
        "median cosine with the maps of both the runner-up and a class drawn by chance; with the latter, trained "
        "networks lie below 0 and untrained ones below 0.7, and numbers added to all logits that show reach 0.99; of "
        "two classes, where there is no third, it is measured and no finding",
    ),
    Bound(
        "randomisation_last_layer",
        0.95,
        "median of the mean cosine with the maps of copies with a random last layer and its negative; honest networks "
        "with a linear layer behind the maps lie at 0 in the logit and below 0.1 in the log-odds, trained or not, "
        "numbers added to all logits and gradients that lie reach 0.99; copies with all layers random are measured and "
        "no finding",
    ),
    Bound(
        "stability_changed",
        0.5,
        "cosine with the heatmap of a picture that looks the same, for LayerCAM, the gradient and input x gradient; "
        "medians of honest networks, trained or not, lie above 0.67 for a flip and above 0.86 for noise, JPEG and a "
        "pixel's shift, and a corner shift leaves 0 to 0.47 of a flip. Of Grad-CAM and HiResCAM, in which channels "
        "cancel, untrained networks have less than 0.1 for a flip: there it is measured and no finding",
    ),
    Bound(
        "stability_other",
        0.8,
        "median of the method's heatmaps in the other score; a network that looks at one place of the canvas alone "
        "has heatmaps that do not flip with the picture, but in both scores",
    ),
    Bound(
        "stability_images",
        0.7,
        "share of the images, at least four on which the prediction stays, whose heatmaps fall below "
        "stability_changed; of honest networks, at most one in four does",
    ),
)


REDRAWN = Bound(
    "redrawn",
    0.9,
    "median structural similarity; below it people see another heatmap, and who can move it so far can mislead",
)

_COMPARED = (
    Bound(
        "same_probabilities",
        1e-4,
        "largest change of any probability; float32 against float64 and an ONNX export move one by up to 2e-6, and "
        "float32 logits with a large number added to them by up to 1e-4",
    ),
    Bound(
        "near_total_variation",
        0.05,
        "mean total variation of the probabilities: one part in twenty of a decision; on the demo network, 8-bit "
        "weights of the last layer move 0.006 and of all layers 0.04, noise of a fiftieth of the weights 0.11",
    ),
    Bound(
        "near_flips",
        0.01,
        "share of images with another predicted class; of fewer than a hundred images, none",
    ),
    Bound(
        "same_maps",
        0.999,
        "median cosine over the images; above 0.99999 for float64 and for an ONNX export of the same network, 0.99997 "
        "for centred logits, 0.93 to 0.99 for a corner shift that is too faint to see in half of the methods",
    ),
    Bound(
        "same_maps_image",
        0.99,
        "cosine on one image; the worst for float64 and for an ONNX export is 0.9995, at the pixels, where kinks of "
        "ReLUs meet rounding",
    ),
)


def comparison_bounds() -> dict[str, Bound]:
    """The bounds that two models are compared by, by name.

    Example:
        >>> comparison_bounds()["same_probabilities"].value
        0.0001
    """
    return {bound.name: bound for bound in _COMPARED}


def bounds_for(classes: int) -> dict[str, Bound]:
    """The bounds for a network with so many classes, by name.

    Three of them scale with the number of classes k: the rows of a linear layer that were never trained share
    1/sqrt(k) of their size by chance, and their common gradient is 1/sqrt(k - 1) of the telling one.

    Args:
        classes: k, at least 1.

    Example:
        >>> bounds_for(1000)["shift_share"].value, round(bounds_for(10)["shift_share"].value, 2)
        (0.1, 1.0)
    """
    chance = 1 / sqrt(max(classes - 1, 1))
    scaled = [
        Bound(
            "shift_share",
            max(0.1, 3 * chance),
            "the larger of 0.1 and three times 1/sqrt(k - 1), what untrained independent rows share by chance; "
            "networks trained with softmax and cross-entropy lie below that chance level",
        ),
        Bound(
            "shift_in_map",
            max(0.4, 0.7 * chance),
            "median over the images; the larger of 0.4, from which on a row that is added to the last layer shows in "
            "heatmaps, and 0.7 times 1/sqrt(k - 1); trained networks of 3 to 1000 classes lie at 0.2 or below and of 2 "
            "below 0.4, unless their last layer began with large weights; of few classes and untrained, up to 4",
        ),
        Bound(
            "head_mean_row",
            min(2 / sqrt(max(classes, 1)), 3 * chance / sqrt(1 + 9 * chance**2)),
            "the smaller of twice 1/sqrt(k), what untrained independent rows share by chance, and what the rows share "
            "where that is three times as large as what sets them apart is by chance: of few classes, a mean row is "
            "never much longer than the rows",
        ),
    ]
    return {bound.name: bound for bound in (*scaled, *_ALWAYS, *_OF_MAPS, *_BESIDE_A_REFERENCE)}
