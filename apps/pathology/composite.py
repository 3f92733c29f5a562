"""Scores composite slides, whose truth is exact: `python -m data.slides.compose` makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from apps.pathology import calibration
from apps.pathology.froc import Froc, detections, froc
from apps.pathology.predict import Predictor
from core.checked import arrays
from core.log import Progress


def score_composites(predictor: Predictor, folder: Path) -> tuple[dict[str, Any], Froc]:
    """Maps every slide of a folder and compares the maps with the truth.

    Returns:
        Plain numbers (cell AUROC with interval, FROC figures, how far a map differs from the same tile judged alone)
        and the FROC curve.

    Raises:
        ValueError: if the folder holds no composites.json, or that or a slide of it is damaged or missing.
    """
    index = folder / "composites.json"
    if not index.is_file():
        raise ValueError(f"{folder} holds no composites.json; make slides with `python -m data.slides.compose`")
    try:
        facts = json.loads(index.read_text(encoding="utf-8"))
        split, seed = facts["split"], facts["seed"]
        slides = [(folder / record["slide"], folder / record["truth"]) for record in facts["slides"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{index} is no list of composite slides ({type(error).__name__}: {error}); make the slides "
                         "anew with `python -m data.slides.compose`") from error
    if not slides:
        raise ValueError(f"{index} lists no slide; make some with `python -m data.slides.compose`")
    chances, labels, found, lesions, unseen = [], [], [], [], 0
    with Progress(len(slides), "slides", "slide") as bar:
        for number, (slide, kept) in enumerate(slides, 1):
            truth = arrays(kept, {"label": ("i", 2), "lesions": ("i", 2)})
            known, lesion = truth["label"], truth["lesions"]
            result = predictor.slide(slide)
            if not result.heatmap.shape == known.shape == lesion.shape:
                raise ValueError(f"{slide} gives a map of {result.heatmap.shape}, its truth {known.shape}; "
                                 "make the slides anew")
            centre = known >= 0
            unseen += int(np.isnan(result.heatmap[centre]).sum())
            # A cell that the tissue mask passed over was judged free of tumour.
            chances.append(np.nan_to_num(result.heatmap[centre], nan=0.0))
            labels.append(known[centre])
            # Seams between tiles are nobody's tissue: a peak there must not hide its neighbours.
            found.append(detections(np.where(centre, result.heatmap, np.nan)))
            lesions.append(lesion)
            bar.update(number)
    p, y = np.concatenate(chances), np.concatenate(labels)
    curve = froc(found, lesions)
    low, high = calibration.bootstrap(calibration.auroc, p, y)
    return {
        "slides": len(lesions), "split": split, "seed": seed, "lesions": curve.lesions,
        "cells": len(p), "cells_not_taken_for_tissue": unseen,
        "auroc": {"value": calibration.auroc(p, y), "low": low, "high": high},
        "ece": calibration.ece(p, y),
        "sensitivity_at_false_positives_per_slide": {f"{rate:g}": value for rate, value in curve.at.items()},
        "froc": curve.score,
    }, curve
