"""The dumb baseline: how much of the answer is in the colours alone, without any shape.

Lymphocytes are small and dark, tumour nuclei large and pale, and the label goes with the scanner; what a real model
knows is what it scores above this. Logistic regression on statistics of the histograms of red, green and blue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
LIGHT = np.arange(256) / 255
DENSITY = -np.log10((np.arange(256) + 1) / 256)  # Beer-Lambert, finite at black


def statistics(images: ArrayLike) -> NDArray[np.float64]:
    """Return (N, 84) colour statistics of tiles (N, H, W, 3) uint8 RGB.

    Mean, deviation and five percentiles, of three channels, of light and of optical density, of the tile and of its
    central third: nothing else of where a pixel lies.

    Raises:
        ValueError: if the array is not tiles.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or not len(images):
        raise ValueError(f"tiles are {images.shape} {images.dtype}, wanted (N, H, W, 3) uint8 RGB and at least one")
    top, left = images.shape[1] // 3, images.shape[2] // 3
    centre = images[:, top : images.shape[1] - top, left : images.shape[2] - left]
    return np.hstack([_moments(part) for part in (images, centre)])


def _moments(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (N, 42), from one histogram per tile and channel."""
    histogram = np.stack([[np.bincount(tile[..., c].ravel(), minlength=256) for c in range(3)] for tile in images])
    share = histogram / histogram.sum(-1, keepdims=True)  # (N, 3, 256)
    reached = np.cumsum(share, axis=-1)
    level = np.stack([(reached < s - 1e-9).sum(-1) for s in SHARES], axis=-1)  # (N, 3, 5): the percentiles, 0..255
    columns = []
    for scale in (LIGHT, DENSITY):
        mean = share @ scale  # (N, 3)
        deviation = np.sqrt(np.maximum(share @ scale**2 - mean**2, 0))
        columns += [mean, deviation, scale[level].reshape(len(images), -1)]
    return np.hstack(columns)


@dataclass(frozen=True)
class ColourModel:
    """A fitted baseline; `regression` is a scikit-learn pipeline."""

    regression: Any

    def logits(self, images: ArrayLike) -> NDArray[np.float64]:
        """Return (N,) logits of tumour for tiles (N, H, W, 3) uint8 RGB."""
        return self.regression.decision_function(statistics(images))

    def probability(self, images: ArrayLike) -> NDArray[np.float32]:
        """Return (N,) probabilities of tumour, float32 in [0, 1], for tiles (N, H, W, 3) uint8 RGB."""
        return self.regression.predict_proba(statistics(images))[:, 1].astype(np.float32)


def fit(images: ArrayLike, labels: ArrayLike) -> ColourModel:
    """Fit the baseline to tiles (N, H, W, 3) uint8 RGB and labels (N,) 0 or 1.

    Raises:
        ValueError: if the tiles are unusable, labels are not one per tile, or a class is missing.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels = statistics(images), np.asarray(labels)
    if labels.shape != (len(features),) or len(np.unique(labels)) != 2:
        raise ValueError(f"{len(features)} tiles, labels {labels.shape}: give 0 or 1 for each tile, and both kinds")
    return ColourModel(make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000)).fit(features, labels))
