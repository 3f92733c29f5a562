"""The table of results, in Markdown, from the numbers in results.json and those of the benchmarks, nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "results"


def table(results: dict[str, Any]) -> str:
    """The rows that are there; a section that was never run has none. Its links are marks, which `linked` fills in."""
    rows = [("figure", "value", "95 % interval", "beside it")]
    if test := results.get("test"):
        colour = test["colour"]
        n = f"test, n = {test['n']:,}"
        rows += [
            (f"AUROC ({n})", *_ci(test["auroc"]), f"colour statistics alone {_beside(colour['auroc'])}"),
            ("AUROC, averaged over 8 symmetries", *_ci(test["symmetries"]["auroc"]), ""),
            ("AUPRC", *_ci(test["auprc"]), f"colour {_beside(colour['auprc'])}"),
            ("accuracy", *_ci(test["accuracy"]), f"colour {_beside(colour['accuracy'])}"),
            ("sensitivity at 95 % specificity", *_ci(test["sensitivity_at_95_specificity"]),
             f"colour {_beside(colour['sensitivity_at_95_specificity'])}"),
            ("sensitivity at 99 % specificity", *_ci(test["sensitivity_at_99_specificity"]),
             f"colour {_beside(colour['sensitivity_at_99_specificity'])}"),
            ("ECE, 15 bins", f"**{_v(test['ece'])}**", "",
             f"were every probability true, chance would show {test['ece_by_chance']['mean']:.4f}, at most "
             f"{test['ece_by_chance']['high']:.4f} in 39 of 40 samples; colour {_v(colour['ece'])}"),
            ("NLL / Brier", f"{_v(test['nll'])} / {_v(test['brier'])}", "",
             f"colour {_v(colour['nll'])} / {_v(colour['brier'])}"),
            (f"answered, at a risk of {test['abstention']['alpha']:.0%}", f"{test['abstention']['answered']:.1%}", "",
             f"answered and wrong {test['abstention']['answered_and_wrong']:.1%} "
             f"({_by_class(test['abstention'])}); accuracy where it answers "
             f"{test['abstention']['accuracy_where_answered']:.3f}, where it declines {_declined(test['abstention'])}"),
        ]
        for group, part in test["within_scanner_group"].items():
            beside = f"; colour {_beside(part['colour']['auroc'])}" if "colour" in part else ""
            rows.append((f"AUROC within scanner group {group}", *_ci(part["auroc"]), f"n = {part['n']}{beside}"))
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
    if speed := _benchmark("pathology_speed.json"):
        rows.append(("tiles per second against timm's fp32 Lite0, batch 64", f"{speed['ratio']['median']:.2f}x",
                     f"{speed['ratio']['min']:.2f} to {speed['ratio']['max']:.2f}",
                     f"against timm in channels_last {speed['ratio_channels_last']['median']:.2f}x; {speed['device']}"))
    if slide := _benchmark("slide_throughput.json"):
        rate, ratio = slide["tiles_per_second"], slide["ratio_scoring_to_openslide"]
        rows.append((f"{slide['cells']} tiles of {slide['slide']} read and scored, against OpenSlide only reading",
                     f"{ratio['median']:.2f}x", f"{ratio['min']:.2f} to {ratio['max']:.2f}",
                     f"{rate['scoring']['median']:.0f} against {rate['openslide']['median']:.0f} tiles/s; model "
                     f"{slide['model']}; peak memory {slide['peak_rss_mib']} MiB; {slide['device']}"))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---|---|---|---|")
    made = _sentence([section for section in results.values() if "command" in section], "[results.json](RESULTS)")
    timed = _sentence([section for section in (speed, slide) if section],
                      "[benchmarks/results](BENCHMARKS), with the range of the rounds for an interval")
    return "\n".join([*lines, "", " ".join(filter(None, (made, timed)))])


def linked(text: str, folder: Path) -> str:
    """The table with its links as they go from a README in a folder of the project."""
    for mark, target in (("RESULTS", Path(__file__).with_name("results.json")), ("BENCHMARKS", BENCHMARKS)):
        text = text.replace(f"({mark})", f"({Path(os.path.relpath(target, folder)).as_posix()})")
    return text


def _sentence(sections: list[dict[str, Any]], place: str) -> str:
    commands = ", ".join(dict.fromkeys(f"`{section['command']}`" for section in sections))
    return f"Made by {commands}; these numbers are in {place}." if sections else ""


def _benchmark(name: str) -> dict[str, Any] | None:
    path = BENCHMARKS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _v(score: dict[str, float]) -> str:
    return f"{score['value']:.4f}"


def _by_class(abstention: dict[str, Any]) -> str:
    normal, tumour = abstention["answered_and_wrong_by_class"]
    return f"of normal tiles {normal:.1%}, of tumour {tumour:.1%}"


def _declined(abstention: dict[str, Any]) -> str:
    accuracy = abstention["accuracy_where_declined"]
    return "-" if accuracy is None else f"{accuracy:.3f}"


def _beside(score: dict[str, float]) -> str:
    return f"{score['value']:.4f} ({score['low']:.4f} to {score['high']:.4f})"


def _ci(score: dict[str, float]) -> tuple[str, str]:
    return f"**{score['value']:.4f}**", f"{score['low']:.4f} to {score['high']:.4f}"
