"""Expert iteration: a net plays itself, search improves on it, the net learns what search found, and so on.

A run's folder holds `games/` (one file for each piece of work), `nets/` (one for each generation, g0000 the first),
`matches/`, `elo.json` and `elo.png`. What a generation does is a pure function of the configuration and of these
files, so that the same command goes on from whatever is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from apps.go import arena, data, games, predict, rating, selfplay
from apps.go.data import Sample
from apps.go.games import Mixture
from apps.go.loss import loss_fn
from apps.go.model import Net
from apps.go.plan import Config, terms
from apps.go.selfplay import Piece
from apps.go.state import Spec
from core import card, cli, jobs
from core.batches import Batches
from core.checked import arrays
from core.files import owning, publishing, write
from core.loop import Fit, Scores, fit
from core.optim import Schedule, adamw
from core.runtime import Runtime, start

Item = TypeVar("Item", Piece, arena.Bout)
T = TypeVar("T")
Progress = Callable[[int, int], None]


def train(config: Config) -> Path:
    """Runs one training as its config says; returns the file of the best net."""
    board = terms(config)
    with start(config.hardware, seed=config.seed) as runtime:
        if not runtime.first:
            return _generations(config, board, runtime)
        with owning(config.out):
            cli.remember(config, config.out, free=("out", "generations", "workers", "hardware"))
            return _generations(config, board, runtime)


def _generations(config: Config, board: Spec, runtime: Runtime) -> Path:
    out, champion = config.out, 0
    archive = _archive(config)
    fixed = _anchors(config) if runtime.first else []
    if runtime.first:
        _first(config)
    for g in range(config.generations):
        if not runtime.from_first(_net(out, g + 1).is_file()):
            _led(runtime, partial(_play, config, board, g, champion))
            files = [out / "games" / name for name in _names(config, g)]
            own = runtime.from_first(games.window(files, board, config.learn.search) if runtime.first else None)
            _learn(config, g, Mixture(Sample(own), archive, config.learn.archive), len(own), runtime)
        champion = _led(runtime, partial(_measure, config, board, g + 1, champion, fixed))
    best = out / "go.safetensors"
    if runtime.first:
        write(best, lambda file: file.write(_net(out, champion).read_bytes()))
        print(f"{best}: the net of generation {champion} of {config.generations}")
    return best


def _led(runtime: Runtime, work: Callable[[Progress], T]) -> T:
    """Has the first rank do some work and gives its result to all; the others hear of each piece that has landed, so
    that none waits longer for the first than a piece takes."""
    if runtime.first:
        result = work(lambda done, total: runtime.from_first((False, None)) and None)
        return runtime.from_first((True, result))[1]
    while True:
        over, found = runtime.from_first(None)
        if over:
            return found


def _net(out: Path, generation: int) -> Path:
    return out / "nets" / f"g{generation:04d}.safetensors"


def _names(config: Config, g: int) -> list[str]:
    """The files of games that generation g learns from."""
    span = range(max(0, g + 1 - config.learn.window), g + 1)
    return [f"g{h:04d}-{i:02d}.npz" for h in span for i in range(config.play.pieces)]


def _archive(config: Config) -> Sample | None:
    if not config.learn.archive:
        return None
    if (config.model.game, config.board.size or 9) != ("go", 9):
        raise ValueError("learn.archive holds 9x9 Go alone; set it to 0 for another game or size")
    return Sample(data.read(data.folder(config.learn.folder), "train"))


def _model(config: Config) -> Net:
    """The net before its first step."""
    torch.manual_seed(config.seed)
    if not config.begin:
        return Net(config.model)
    net, _ = predict.read_net(config.begin)
    if net.config.game != config.model.game:
        raise ValueError(f"{config.begin} plays {net.config.game}, and model.game is {config.model.game}; "
                         "choose weights of that game")
    fresh = Net(net.config)
    fresh.load_state_dict(net.state_dict())
    return fresh


def _first(config: Config) -> None:
    """Writes the net that plays the first generation, if it is not there or another configuration's."""
    path = _net(config.out, 0)
    if not (path.is_file() and card.read_card(path).training == _training(config, 0)):
        _write(config, _model(config), 0)


def _training(config: Config, g: int) -> dict[str, Any]:
    free = ("out", "hardware", "workers", "generations")
    return {**{k: v for k, v in cli.plain(config).items() if k not in free}, "generation": g}


def _write(config: Config, net: torch.nn.Module, g: int) -> None:
    assert isinstance(net, Net)
    sheet = card.Card(app="go", name=config.out.name, model=asdict(net.config), step=g * config.learn.steps,
                      training=_training(config, g), data={"name": "self-play"})
    card.write(_net(config.out, g), net.state_dict(), card.signed(sheet), torch.float16)


def _play(config: Config, board: Spec, g: int, champion: int, progress: Progress) -> None:
    """Has the games of a generation played."""
    weights = _net(config.out, champion).read_bytes()
    pieces = [Piece(g, i, config.seed, board, config.play, config.board.longest, weights)
              for i in range(config.play.pieces)]
    begin = time.perf_counter()
    fresh = _run(config, selfplay.play, pieces, "games", progress)
    if fresh:
        found = [arrays(config.out / "games" / name, games.WANTED) for name in fresh]
        seconds, n = time.perf_counter() - begin, sum(len(f["komi"]) for f in found)
        print(f"generation {g}: {n} games, {sum(len(f['game']) for f in found):,} samples, {n / seconds:.1f} games/s, "
              f"{sum(int(f['simulations']) for f in found) / seconds:,.0f} simulations/s", flush=True)


def _run(config: Config, function: Callable[[Item], dict[str, Any]], items: list[Item], folder: str,
         progress: Progress) -> list[str]:
    """Runs pieces of work whose results land in a folder of the run; returns the keys of those that are new.

    Raises:
        ValueError: if one failed.
    """
    w = config.workers
    report = jobs.run(function, items, key=lambda item: item.key, write=games.write, out=config.out / folder,
                      done=lambda path, item: games.holds(path, item.digest), workers=w.count or None,
                      threads=w.threads, gpus=w.gpus, cluster=w.cluster or None, progress=progress)
    if report.failed:
        key, trace = report.failed[0]
        raise ValueError(f"{len(report.failed)} of {len(report)} pieces failed, {key} with "
                         f"{trace.strip().splitlines()[-1][:200]}; what was finished is kept in {config.out / folder}")
    return report.done


def _learn(config: Config, g: int, sample: Mixture, n: int, runtime: Runtime) -> None:
    """Trains through the steps of a generation; the averaged net is written as that of the next."""
    learn, o = config.learn, config.optimise
    model = runtime.place(_model(config))
    batches = Batches(sample, n, learn.batch, seed=config.seed, rank=runtime.rank, world=runtime.world)
    options = Fit(steps=(g + 1) * learn.steps, clip=learn.clip, average=learn.average, log_every=learn.steps,
                  save_every=learn.save_every)

    def keep(net: torch.nn.Module, step: int, scores: Scores) -> None:
        _write(config, net, g + 1)

    fit(model, adamw([(model, o.lr)], o.weight_decay), batches, loss_fn(o), app="go", out=config.out, runtime=runtime,
        options=options, schedule=_schedule(o.warmup, learn.halving), keep=keep)


def _schedule(warmup: int, halving: int) -> Schedule:
    """Linear warm-up, then a rate that halves every so many steps; it asks for no end, so that a run can go on."""
    return lambda step: min(1.0, (step + 1) / (warmup + 1)) * (0.5 ** (step / halving) if halving else 1.0)


def _anchors(config: Config) -> list[arena.Entrant]:
    """The fixed players; weights of ours are read once."""
    found = []
    for name in config.gate.anchors:
        if name == "random" or name.startswith("rollouts"):
            found.append(arena.anchor(name))
        else:
            path = predict.find(name)
            found.append(arena.Entrant(name, config.gate.visits, path.read_bytes()))
    return found


def _measure(config: Config, board: Spec, g: int, champion: int, fixed: list[arena.Entrant],
             progress: Progress) -> int:
    """Plays a generation's matches, if they are due, and says whose net plays on."""
    gate, out = config.gate, config.out
    if gate.every and (g % gate.every == 0 or g == config.generations):
        def entrant(generation: int) -> arena.Entrant:
            return arena.Entrant(f"g{generation:04d}", gate.visits, _net(out, generation).read_bytes())

        new, last = entrant(g), (g - 1) // gate.every * gate.every
        others = [entrant(h) for h in dict.fromkeys((champion, last) if gate.share else (last,))] + fixed
        bouts = [arena.Bout(f"g{g:04d}-{_plain(other.name)}.npz", new, other, board, gate.games, gate.opening,
                            config.seed * 1_000_003 + g, config.board.longest) for other in others]
        if _run(config, arena.fight, bouts, "matches", progress) or not (out / "elo.json").is_file():
            print(f"generation {g}: {_rate(config, [e.name for e in fixed])}", flush=True)
        if gate.share:
            points = arrays(out / "matches" / bouts[0].key, {"points": ("f", 1)})["points"]
            return g if points.mean() >= gate.share else champion
    return champion if gate.share else g


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "@.-" else "-" for c in name)[-80:]


def _rate(config: Config, anchors: list[str]) -> str:
    """Rates all that have played, writes elo.json and elo.png, and says what the newest net has."""
    results = []
    for path in sorted((config.out / "matches").glob("g*.npz")):
        found = arrays(path, {"points": ("f", 1), "a": ("U", 0), "b": ("U", 0)})
        results.append(rating.Result(str(found["a"]), str(found["b"]), float(found["points"].sum()),
                                     len(found["points"])))
    table = rating.ratings(results, anchors[0] if anchors else "g0000")
    rows = {name: asdict(row) for name, row in table.items()}
    with publishing(config.out / "elo.json") as part:
        part.write_text(json.dumps({"ratings": rows, "matches": [asdict(r) for r in results]}, indent=1) + "\n",
                        encoding="utf-8")
    curve = {int(name[1:]): row for name, row in table.items() if name[:1] == "g" and name[1:].isdigit()}
    image = rating.picture(dict(sorted(curve.items())), {n: table[n] for n in anchors if n in table},
                           f"{config.model.game} by self-play, {config.gate.visits} visits")
    write(config.out / "elo.png", lambda file: file.write(image))
    newest = table[f"g{max(curve):04d}"]
    return f"Elo {newest.elo:+.0f} [{newest.low:+.0f}, {newest.high:+.0f}]"
