"""FROC: how many lesions are found at how many false alarms a slide, as CAMELYON16 counts them.

A detection is a point with a confidence. A lesion is found, at a confidence threshold, if a detection at or above it
lies inside; a detection outside every lesion is a false positive, however many there are; one inside a region to be
ignored (isolated tumour cells) is neither. The score is the mean sensitivity at 1/4, 1/2, 1, 2, 4 and 8 false positives
a slide (Ehteshami Bejnordi et al. 2017, JAMA 318:2199), read off the curve by linear interpolation as the challenge's
own evaluation script does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # false positives a slide
IGNORE = -1  # in a map of lesions: neither lesion nor healthy


@dataclass(frozen=True)
class Detection:
    """A point on a slide's map that is said to be a lesion."""

    row: int
    column: int
    confidence: float


@dataclass(frozen=True)
class Froc:
    """The curve, from the strictest threshold to the laxest, and the challenge's figures."""

    false_positives: np.ndarray  # float64, mean over the slides, ascending
    sensitivity: np.ndarray  # float64 in [0, 1]
    at: dict[float, float]  # sensitivity at each rate of RATES
    score: float  # their mean
    slides: int
    lesions: int


def detections(heatmap: np.ndarray, radius: float = 6.0, least: float = 0.05) -> list[Detection]:
    """Return the peaks of a map (h, w; NaN outside tissue), highest first, no two within `radius` cells.

    The greatest cell is taken and its surroundings are struck out, until less than `least` is left. Six cells of 32
    pixels at 0.972 um are 187 um, about the 200 um below which pathologists call a group isolated tumour cells.
    """
    left = np.nan_to_num(heatmap.astype(np.float64), nan=-1.0)
    height, width = left.shape
    reach, found = int(radius), []
    down, across = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disc = down**2 + across**2 <= radius**2
    for index in np.argsort(-left, axis=None, kind="stable"):
        row, column = divmod(int(index), width)
        if heatmap[row, column] < least or np.isnan(heatmap[row, column]):
            break
        if left[row, column] < 0:  # struck out
            continue
        found.append(Detection(row, column, float(heatmap[row, column])))
        top, start = max(row - reach, 0), max(column - reach, 0)
        bottom, end = min(row + reach + 1, height), min(column + reach + 1, width)
        part = disc[top - row + reach : bottom - row + reach, start - column + reach : end - column + reach]
        left[top:bottom, start:end][part] = -1
    return found


def froc(found: Sequence[Sequence[Detection]], lesions: Sequence[np.ndarray]) -> Froc:
    """Return the curve of some slides' detections against their maps of lesions.

    `lesions[i]` is (h, w) int: 0 healthy, -1 ignored, else the lesion's number on that slide. ValueError if the two
    differ in length, if there is no lesion at all, or if a detection lies outside its map.
    """
    if len(found) != len(lesions):
        raise ValueError(f"there are detections for {len(found)} slides and lesions for {len(lesions)}")
    total = sum(len(np.unique(truth[truth > 0])) for truth in lesions)
    if total == 0:
        raise ValueError("none of the slides has a lesion; sensitivity needs at least one")
    wrong: list[float] = []  # confidence of each false positive
    hits: list[float] = []  # greatest confidence within each lesion that was hit
    for points, truth in zip(found, lesions, strict=True):
        best: dict[int, float] = {}
        for point in points:
            if not (0 <= point.row < truth.shape[0] and 0 <= point.column < truth.shape[1]):
                raise ValueError(f"a detection at row {point.row}, column {point.column} lies outside {truth.shape}")
            number = int(truth[point.row, point.column])
            if number > 0:
                best[number] = max(point.confidence, best.get(number, -np.inf))
            elif number != IGNORE:
                wrong.append(point.confidence)
        hits.extend(best.values())
    thresholds = np.unique([*wrong, *hits])[::-1]  # strictest first
    rate = _at_least(wrong, thresholds) / len(lesions)
    sensitivity = _at_least(hits, thresholds) / total
    rate, sensitivity = np.concatenate([[0.0], rate]), np.concatenate([[0.0], sensitivity])
    at = {target: float(np.interp(target, rate, sensitivity)) for target in RATES}
    return Froc(rate, sensitivity, at, float(np.mean(list(at.values()))), len(lesions), total)


def _at_least(values: Sequence[float], thresholds: np.ndarray) -> np.ndarray:
    ordered = np.sort(np.asarray(values, np.float64))
    return len(ordered) - np.searchsorted(ordered, thresholds, side="left")
