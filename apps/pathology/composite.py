"""Scores composite slides, whose truth is exact: `python -m data.slides.compose` makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from apps.pathology import calibration
from apps.pathology.froc import Froc, detections, froc
from apps.pathology.predict import Predictor
from core.log import Progress


def score_composites(predictor: Predictor, folder: Path) -> tuple[dict[str, Any], Froc]:
    """Maps every slide of a folder and compares the maps with the truth.

    Returns:
        Plain numbers (cell AUROC with interval, FROC figures, how far a map differs from the same tile judged alone)
        and the FROC curve.

    Raises:
        ValueError: if the folder holds no composites.json, or a slide of it is missing.
    """
    index = folder / "composites.json"
    if not index.is_file():
        raise ValueError(f"{folder} holds no composites.json; make slides with `python -m data.slides.compose`")
    facts = json.loads(index.read_text(encoding="utf-8"))
    chances, labels, found, lesions, unseen = [], [], [], [], 0
    with Progress(len(facts["slides"]), "slides", "slide") as bar:
        for number, record in enumerate(facts["slides"], 1):
            result = predictor.slide(folder / record["slide"])
            with np.load(folder / record["truth"], allow_pickle=False) as truth:
                known, lesion = truth["label"], truth["lesions"]
            if result.heatmap.shape != known.shape:
                raise ValueError(f"{record['slide']} gives a map of {result.heatmap.shape}, its truth {known.shape}; "
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
        "slides": len(lesions), "split": facts["split"], "seed": facts["seed"], "lesions": curve.lesions,
        "cells": len(p), "cells_not_taken_for_tissue": unseen,
        "auroc": {"value": calibration.auroc(p, y), "low": low, "high": high},
        "ece": calibration.ece(p, y),
        "sensitivity_at_false_positives_per_slide": {f"{rate:g}": value for rate, value in curve.at.items()},
        "froc": curve.score,
    }, curve
