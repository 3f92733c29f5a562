"""The table of results, in Markdown, from the numbers in results.json and those of the benchmarks, nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.results import table as markdown

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "results"


def table(results: dict[str, Any]) -> str:
    """The rows that are there; a section that was never run has none."""
    rows: list[tuple[str, ...]] = [("figure (9x9)", "value", "95 % interval", "beside it")]
    commands = []
    if test := results.get("test"):
        commands.append(test["command"])
        rows += [
            (f"top-1 agreement with the game's move (test, {test['n']:,} positions, {test['games']} games)",
             *_share(test["top1"]),
             f"the teacher {_percent(test['teacher_agreement_with_move'])}, nearest to the last move "
             f"{_percent(test['nearest_to_last_move_top1'])}, random {_percent(test['random_top1'])}"),
            ("top-3 agreement", *_share(test["top3"]), ""),
            ("same first choice as the teacher", *_share(test["teacher_top1"]), ""),
            ("same side ahead as the teacher", *_share(test["winner"]), ""),
            ("error of the lead, points", *_plain(test["lead_error"]), "against the teacher's"),
        ]
    for name, rung in results.get("ladder", {}).get("rungs", {}).items():
        rows.append((name, *_share(rung), f"{rung['wins']}-{rung['draws']}-{rung['losses']}, n = {rung['n']}"))
    if "ladder" in results:
        commands.append("python -m apps.go.evaluate ladder A B --games N")
    if solved := results.get("connect4"):
        commands.append(solved["command"])
        for name, found in solved["sets"].items():
            beside = ", ".join(f"{who} {_percent(found[key])}" for key, who in (
                ("raw", "without search"), ("rollouts", "search by random games"), ("random", "random")))
            rows.append((f"Connect Four, errors on Pons' {name.replace('_', '-')} set at {solved['visits']} visits",
                         *_share(found["net"]), f"{beside} (n = {found['raw']['n']}); n = {found['n']:,}"))
    speed = BENCHMARKS / "go_rules.json"
    if speed.is_file():
        found = json.loads(speed.read_text(encoding="utf-8"))
        ratio = found["ratio"]
        rows.append(("random play with all legal moves, against OpenSpiel", f"{ratio['median']:.1f}x",
                     f"{ratio['quartile']:.1f} to {ratio['third_quartile']:.1f} (quartiles)", found["device"]))
        commands.append(found["command"])
    search = BENCHMARKS / "go_search.json"
    if search.is_file():
        found = json.loads(search.read_text(encoding="utf-8"))
        share = found["share"]
        rows.append(("tree search, share of the speed of its net alone", f"{100 * share['median']:.0f} %",
                     f"{100 * share['quartile']:.0f} to {100 * share['third_quartile']:.0f} % (quartiles)",
                     f"{found['games']} games, {found['leaves']} leaves of each at a time"))
        rows.append(("simulations a second where no net is asked",
                     f"{found['simulations_per_second_without_net']:,}", "", "500,000 are wanted"))
        commands.append(found["command"])
    made = ", ".join(f"`{command}`" for command in commands)
    return (markdown(rows) + f"\n\nMade by {made}; all numbers in [results.json](results.json), "
            "the speed in benchmarks/results/go_rules.json and go_search.json.")


def _percent(found: dict[str, float]) -> str:
    return f"{100 * found['value']:.1f} %"


def _share(found: dict[str, float]) -> tuple[str, str]:
    return f"**{_percent(found)}**", f"{100 * found['low']:.1f} to {100 * found['high']:.1f}"


def _plain(found: dict[str, float]) -> tuple[str, str]:
    return f"{found['value']:.2f}", f"{found['low']:.2f} to {found['high']:.2f}"
