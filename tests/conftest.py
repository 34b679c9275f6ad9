"""What every test may ask for: calm threads, repeatable examples, the demo network and a few photographs."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

# One process of several has one core; torch reads this when it is first imported, which no test module has done yet.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")

import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

if TYPE_CHECKING:
    from fukusen.models import Classifier

settings.register_profile(
    "house",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("house")


def _data_folder(package: str) -> Path:
    """Where an installed package keeps its pictures, found without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data"


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def lite0() -> Classifier:
    """The demo network, EfficientNet-Lite0 with its ImageNet weights."""
    import fukusen

    return fukusen.load("demo")


@pytest.fixture(scope="session")
def imagenet_paths() -> tuple[Path, ...]:
    """Twenty labelled ImageNet photographs; the label is the last number of the file name."""
    return tuple(sorted(_data_folder("foolbox").glob("imagenet_*.jpg")))


@pytest.fixture(scope="session")
def photograph_paths() -> tuple[Path, ...]:
    """Three large photographs: a cat, a cup of coffee, an astronaut."""
    return tuple(_data_folder("skimage") / name for name in ("chelsea.png", "coffee.png", "astronaut.png"))


@pytest.fixture(scope="session")
def photographs(photograph_paths: tuple[Path, ...]) -> tuple[Image.Image, ...]:
    """The same three as PIL images in RGB."""
    return tuple(Image.open(path).convert("RGB") for path in photograph_paths)
