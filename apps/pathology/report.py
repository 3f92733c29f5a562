"""The table of results, in Markdown, from the numbers in results.json and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "results"


def table(results: dict[str, Any]) -> str:
    """The rows that are there; a section that was never run has none."""
    rows = [("figure", "value", "95 % interval", "beside it")]
    if test := results.get("test"):
        colour = test["colour"]
        n = f"test, n = {test['n']:,}"
        rows += [
            (f"AUROC ({n})", *_ci(test["auroc"]), f"colour statistics alone {_v(colour['auroc'])}"),
            ("AUROC, averaged over 8 symmetries", *_ci(test["symmetries"]["auroc"]), ""),
            ("AUPRC", *_ci(test["auprc"]), f"colour {_v(colour['auprc'])}"),
            ("accuracy", *_ci(test["accuracy"]), f"colour {_v(colour['accuracy'])}"),
            ("sensitivity at 95 % specificity", *_ci(test["sensitivity_at_95_specificity"]),
             f"colour {_v(colour['sensitivity_at_95_specificity'])}"),
            ("sensitivity at 99 % specificity", *_ci(test["sensitivity_at_99_specificity"]),
             f"colour {_v(colour['sensitivity_at_99_specificity'])}"),
            ("ECE, 15 bins (resampling inflates it)", *_ci(test["ece"]),
             f"before calibration {test['ece_uncalibrated']:.4f}"),
            ("NLL / Brier", f"{_v(test['nll'])} / {_v(test['brier'])}", "",
             f"colour {_v(colour['nll'])} / {_v(colour['brier'])}"),
            (f"answered at risk {test['abstention']['alpha']:g}", f"{test['abstention']['answered']:.1%}", "",
             f"accuracy where it answers {test['abstention']['accuracy_where_answered']:.3f}"),
        ]
        rows += [(f"AUROC within scanner group {group}", *_ci(part["auroc"]), f"n = {part['n']}")
                 for group, part in test["within_scanner_group"].items()]
        rows.append(("Grad-CAM mass in the centre 32x32", f"{test['saliency']['centre_share']:.1%}", "",
                     f"a uniform map {test['saliency']['uniform']:.1%}"))
    if cross := results.get("cross_scanner"):
        for group in (0, 1):
            part = cross[f"trained_on_{group}"]
            rows.append((f"trained on scanner group {group}, AUROC on group {1 - group}", *_ci(part["other"]["auroc"]),
                         f"on its own group {_v(part['same']['auroc'])}; n = {part['other']['n']}"))
    if slides := results.get("slides"):
        at = slides["sensitivity_at_false_positives_per_slide"]
        rows += [
            (f"heat map AUROC, {slides['slides']} composite slides", *_ci(slides["auroc"]), f"{slides['cells']} cells"),
            ("FROC score", f"{slides['froc']:.3f}", "",
             f"{slides['lesions']} lesions; at " + ", ".join(f"{rate}: {value:.2f}" for rate, value in at.items())),
        ]
    speed = _benchmark("pathology_speed.json")
    if speed:
        rows.append(("tiles per second against timm's fp32 Lite0, batch 64", f"{speed['ratio']['median']:.2f}x",
                     f"{speed['ratio']['min']:.2f} to {speed['ratio']['max']:.2f}",
                     f"against timm in channels_last {speed['ratio_channels_last']['median']:.2f}x; {speed['device']}"))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---|---|---|---|")
    made = [f"`{section['command']}`" for section in results.values() if "command" in section]
    if speed:
        made.append(f"`{speed['command']}`")
    return "\n".join([*lines, "", f"Made by {', '.join(dict.fromkeys(made))}; all numbers in "
                                  "[results.json](RESULTS)." if made else ""])


def _benchmark(name: str) -> dict[str, Any] | None:
    path = BENCHMARKS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _v(score: dict[str, float]) -> str:
    return f"{score['value']:.4f}"


def _ci(score: dict[str, float]) -> tuple[str, str]:
    return f"**{score['value']:.4f}**", f"{score['low']:.4f} to {score['high']:.4f}"
