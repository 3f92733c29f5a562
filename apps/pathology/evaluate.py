"""Held-out scores: writes results.json, the figures, and the table in the room's README.

python -m apps.pathology.evaluate test            the shipped model on the test split, beside the colour-only baseline
python -m apps.pathology.evaluate models A B      other trained models on validation and test
python -m apps.pathology.evaluate cross A B       models of one scanner group on the other
python -m apps.pathology.evaluate slides FOLDER   composite slides with exact ground truth
python -m apps.pathology.evaluate table           the README's table from results.json
python -m apps.pathology.evaluate calibrate A     calibration of a trained model, fitted on validation
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from apps.pathology import calibration, data, predict
from apps.pathology.predict import Predictor
from core import cli, results
from core.fetch import cache_folder
from core.files import write
from core.log import Progress
from core.runtime import describe

ROOM = Path(__file__).parent
RESULTS = ROOM / "results.json"
PROGRAM = "apps.pathology.evaluate"
NAMES = {
    "auroc": calibration.auroc, "auprc": calibration.auprc, "accuracy": calibration.accuracy,
    "sensitivity_at_95_specificity": lambda p, y: calibration.sensitivity_at_specificity(p, y, 0.95),
    "sensitivity_at_99_specificity": lambda p, y: calibration.sensitivity_at_specificity(p, y, 0.99),
    "ece": calibration.ece, "nll": calibration.nll, "brier": calibration.brier,
}
Positional = tyro.conf.Positional


@dataclass(frozen=True)
class Test:
    """The model on the test split: scores with intervals, calibration, abstention, scanners, symmetries, figures."""

    weights: str = "default"
    """A published name, a file, a run folder, or hf://owner/repo/file."""
    folder: str = ""
    """Folder of tiles; empty takes $WUNDERKAMMER_DATA/pcam."""
    precision: predict.Precision = "auto"
    """What to compute in; auto takes bfloat16 where it is faster."""
    out: Path = RESULTS
    """The file of results; figures go to `figures` beside it."""

    def run(self) -> None:
        root, test = _tiles(self.folder, self.out)
        predictor = predict.load(self.weights, precision=self.precision)
        logits = _logits(predictor, test)
        turned = _logits(predictor, test, symmetries=True)
        probability = predictor.calibration.probability(logits)
        baseline = _colour_baseline(root, test)
        answered = ~(predictor.conformal.uncertain(probability) | predict.empty(test.stack()))
        wrong = (probability >= 0.5) != (test.labels == 1)
        section = {
            "n": len(test), "split": test.name, "sha256": test.sha256, **_provenance(predictor),
            **_scores(probability, test.labels),
            "ece_by_chance": calibration.ece_by_chance(probability),
            "ece_uncalibrated": calibration.ece(_sigmoid(logits), test.labels),
            "abstention": {
                "alpha": predictor.conformal.alpha, "confidence": predictor.conformal.confidence,
                "answered": float(answered.mean()),
                "answered_and_wrong": float((wrong & answered).mean()),
                "answered_and_wrong_by_class": [float((wrong & answered)[test.labels == c].mean()) for c in (0, 1)],
                "accuracy_where_answered": float(1 - wrong[answered].mean()),
                "accuracy_where_declined": float(1 - wrong[~answered].mean()) if (~answered).any() else None},
            "symmetries": _scores(predictor.calibration.probability(turned), test.labels),
            "colour": _scores(baseline, test.labels),
            "within_scanner_group": {
                str(group): {"n": int(mine.sum()), **_scores(probability[mine], test.labels[mine], ("auroc", "ece")),
                             "colour": _scores(baseline[mine], test.labels[mine], ("auroc", "ece"))}
                for group in np.unique(test.scanner) for mine in [test.scanner == group]},
            "saliency": _saliency(predictor, test),
        }
        results.record(self.out, "test", section, PROGRAM)
        _figures(self.out.parent / "figures", predictor, test, logits, probability, baseline, answered)
        print(json.dumps({k: section[k] for k in ("auroc", "ece", "accuracy")}))


@dataclass(frozen=True)
class Models:
    """Other trained models beside each other, on validation (where choices are made) and test."""

    weights: Annotated[tuple[str, ...], Positional]
    """Files or run folders."""
    folder: str = ""
    """Folder of tiles; empty takes $WUNDERKAMMER_DATA/pcam."""
    out: Path = RESULTS
    """The file of results."""

    def run(self) -> None:
        root, test = _tiles(self.folder, self.out)
        splits = {"val": data.read(root, "val"), "test": test}
        rows = []
        for name in self.weights:
            predictor = predict.load(name)
            row: dict[str, Any] = _provenance(predictor)
            for split, tiles in splits.items():
                probability = predictor.calibration.probability(_logits(predictor, tiles))
                row[split] = _scores(probability, tiles.labels, ("auroc", "ece", "accuracy", "nll"))
            rows.append(row)
        results.record(self.out, "models", {"rows": rows}, PROGRAM)


@dataclass(frozen=True)
class Cross:
    """Trained on one scanner group, tested on the other: does it read a laboratory it has never seen?"""

    weights: Annotated[tuple[str, str], Positional]
    """Models trained with `--data.scanner 0` and `--data.scanner 1`."""
    folder: str = ""
    """Folder of tiles; empty takes $WUNDERKAMMER_DATA/pcam."""
    out: Path = RESULTS
    """The file of results."""

    def run(self) -> None:
        _, test = _tiles(self.folder, self.out)
        section: dict[str, Any] = {"split": test.name}
        for name in self.weights:
            predictor = predict.load(name)
            group = predictor.card.data.get("scanner_group", -1)
            if group not in (0, 1):
                raise ValueError(f"{name} was trained on all scanners; train one with --data.scanner 0 and one with 1")
            row = _provenance(predictor)
            for what, other in (("same", group), ("other", 1 - group)):
                tiles = test.where(test.scanner == other)
                probability = predictor.calibration.probability(_logits(predictor, tiles))
                row[what] = {"n": len(tiles), **_scores(probability, tiles.labels, ("auroc", "ece", "accuracy"))}
            section[f"trained_on_{group}"] = row
        results.record(self.out, "cross_scanner", section, PROGRAM)


@dataclass(frozen=True)
class Slides:
    """Composite slides: real test tiles on a synthetic layout, so that the truth is exact."""

    slides: Annotated[Path, Positional]
    """Folder made by `python -m data.slides.compose`."""
    weights: str = "default"
    """A published name, a file, a run folder, or hf://owner/repo/file."""
    out: Path = RESULTS
    """The file of results."""

    def run(self) -> None:
        from apps.pathology.composite import score_composites

        results.read(self.out)
        predictor = predict.load(self.weights)
        section, curve = score_composites(predictor, self.slides)
        results.record(self.out, "slides", {**_provenance(predictor), **section}, PROGRAM)
        from apps.pathology import plots

        _publish(self.out.parent / "figures" / "froc.png", plots.froc(curve.false_positives, curve.sensitivity))


@dataclass(frozen=True)
class Calibrate:
    """Fits calibration and abstention of a trained model on the validation split, and writes them into its card."""

    weights: Annotated[str, Positional]
    """A .safetensors file or a run folder of your own; it is changed."""
    folder: str = ""
    """Folder of tiles; empty takes $WUNDERKAMMER_DATA/pcam."""
    split: str = "val"
    """Split to fit on; never the test split."""

    def run(self) -> None:
        path = predict.find(self.weights)
        for published in (ROOM / "weights", cache_folder("weights")):
            if path.resolve().is_relative_to(published.resolve()):
                raise ValueError(f"{self.weights!r} is published and must stay as it is; calibrate a copy of {path}")
        sheet = predict.calibrate(path, data.read(data.folder(self.folder), self.split))
        print(json.dumps(sheet.settings["calibration"]))


@dataclass(frozen=True)
class Table:
    """Writes the README's table from the file of results."""

    results: Path = RESULTS
    """The file of results."""

    def run(self) -> None:
        from apps.pathology.report import linked, table

        if not self.results.is_file():
            raise ValueError(f"{self.results} is not there; `python -m apps.pathology.evaluate test` writes one")
        try:
            text = table(results.read(self.results))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.results} holds other results than `evaluate` writes ({error!r})") from error
        for folder in (ROOM, ROOM.parents[1]):
            results.between_marks(folder / "README.md", linked(text, folder))


def _tiles(given: str, out: Path) -> tuple[Path, data.Tiles]:
    """The folder of tiles and its test split, after a look at the file that the scores go to."""
    results.read(out)
    root = data.folder(given)
    test = data.read(root, "test")
    results.no_sample(test.sha256, data.read(data.SAMPLE, "test").sha256, out, RESULTS)
    return root, test


def _logits(predictor: Predictor, tiles: data.Tiles, *, symmetries: bool = False) -> np.ndarray:
    with Progress(len(tiles), tiles.name, "tile") as bar:
        rows = []
        for begin in range(0, len(tiles), 256):
            images = np.stack([tiles.images[i] for i in range(begin, min(begin + 256, len(tiles)))])
            rows.append(predictor.logits(images, symmetries=symmetries))
            bar.update(begin + len(images))
    return np.concatenate(rows)


def _scores(probability: np.ndarray, labels: np.ndarray, names: tuple[str, ...] = tuple(NAMES)) -> dict[str, Any]:
    result = {}
    for name in names:
        low, high = calibration.bootstrap(NAMES[name], probability, labels)
        result[name] = {"value": float(NAMES[name](probability, labels)), "low": low, "high": high}
    return result


def _colour_baseline(root: Path, test: data.Tiles) -> np.ndarray:
    """Probabilities (N,) of a logistic regression on colour statistics, fitted on the training splits."""
    from apps.pathology import colour

    train = data.join([data.read(root, split) for split in data.splits(root, ("train", "train_extra"))])
    return colour.fit(train.stack(), train.labels).probability(test.stack())


def _saliency(predictor: Predictor, tiles: data.Tiles, most: int = 400) -> dict[str, Any]:
    """The share of Grad-CAM's mass in the centre 32x32, over positive tiles; a uniform map has 1/9."""
    positive = np.flatnonzero(tiles.labels == 1)[:most]
    cam = predictor(np.stack([tiles.images[i] for i in positive])).saliency()
    cam = cam[cam.sum((1, 2)) > 0]
    share = cam[:, 32:64, 32:64].sum((1, 2)) / cam.sum((1, 2))
    return {"n": len(cam), "centre_share": float(share.mean()), "uniform": 1 / 9}


def _figures(folder: Path, predictor: Predictor, test: data.Tiles, logits: np.ndarray, probability: np.ndarray,
             baseline: np.ndarray, answered: np.ndarray) -> None:
    from apps.pathology import plots

    y = test.labels
    _publish(folder / "reliability.png", plots.reliability(_sigmoid(logits), probability, y))
    _publish(folder / "roc.png", plots.roc({predictor.card.name: probability, "colour only": baseline}, y))
    curves = {predictor.card.name: probability, "colour only": baseline}
    _publish(folder / "selective_risk.png", plots.selective_risk(
        curves, y, {predictor.card.name: ~answered}))
    rng = np.random.default_rng(0)
    chosen = np.concatenate([rng.choice(np.flatnonzero(y == c), 4, replace=False) for c in (1, 0)])
    result = predictor(np.stack([test.images[i] for i in chosen]))
    _publish(folder / "saliency.png", plots.saliency(
        result.tiles, result.saliency(), result.probability, y[chosen], columns=8))


def _publish(path: Path, png: bytes) -> None:
    write(path, lambda file: file.write(png))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return calibration.Calibration().probability(logits)


def _provenance(predictor: Predictor) -> dict[str, Any]:
    return {"model": predictor.card.name, "sha256_weights": predictor.sha256, "precision": predictor.precision,
            "device": describe(predictor.device)}


COMMANDS: dict[str, Any] = {
    "test": Test, "models": Models, "cross": Cross, "slides": Slides, "table": Table, "calibrate": Calibrate,
}


def main() -> None:
    chosen = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="python -m apps.pathology.evaluate",
                                                  description="Held-out scores of the pathology models.")
    chosen.run()


if __name__ == "__main__":
    cli.main(main)
