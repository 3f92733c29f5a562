"""Pathology from a shell: `python -m apps.pathology tile.png --json`, or `slide.svs --out folder`."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from core import cli

SLIDE_ENDINGS = {".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".tif", ".tiff", ".btf"}
SHOWN = ("cells", "uncertain_cells", "tissue_mm2", "tumour_mm2", "max")
LARGEST_TILE = 1_000_000
"""Pixels; a TIFF with more is taken for a slide."""


@dataclass(frozen=True)
class Options:
    """Judges tiles (96x96 pixels at 0.97 um/px), or maps whole slides. Research use only."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Pictures of tiles, or slides."""
    list: Path | None = None
    """A text file with one slide per line; with --workers they are scored side by side."""
    out: Path = Path("slides-out")
    """Folder for the results of slides: one folder each, with map, overlay, GeoJSON and table."""
    mpp: float | None = None
    """Microns per pixel, if not 0.97 (tiles), or if a slide does not say."""
    weights: str = "default"
    """A published name, a .safetensors file, a run folder, or hf://owner/repo/file."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    alpha: float = 0.05
    """Risk at which the model declines to answer."""
    symmetries: bool = False
    """Average over the eight turns and mirrors of each tile; not for slides."""
    saliency: Path | None = None
    """Folder for a Grad-CAM overlay of each tile."""
    json: bool = False
    """Print one JSON object per tile instead of a table."""
    workers: int = 1
    """Processes that score the slides of --list."""
    cluster: str | None = None
    """Score the slides of --list on a Ray cluster: auto, or its address."""


def main() -> None:
    options = tyro.cli(Options, prog="python -m apps.pathology", description=Options.__doc__)
    if options.list:
        if options.files:
            raise ValueError(f"{options.files[0]} comes with --list {options.list}; pass files or a list, not both")
        from apps.pathology.many import score_list

        sys.exit(score_list(options.list, out=options.out, weights=options.weights, mpp=options.mpp,
                            alpha=options.alpha, device=options.device, workers=options.workers,
                            cluster=options.cluster))
    if options.cluster or options.workers != 1:
        raise ValueError("--workers and --cluster score the slides of a list; pass --list slides.txt with them")
    if not options.files:
        raise ValueError("no file given; pass pictures of tiles, a slide with --out FOLDER, or --list slides.txt")
    missing = [str(file) for file in options.files if not file.exists()]
    if missing:
        raise ValueError(f"{', '.join(missing)}: no such file")
    places: dict[Path, Path] = {}
    slides = [file for file in options.files if is_slide(file)]
    tiles = [file for file in options.files if file not in slides]
    if slides:
        if for_tiles := [name for name in ("saliency", "symmetries", "json") if getattr(options, name)]:
            raise ValueError(f"{slides[0]} is a slide, and --{for_tiles[0]} is for tiles; leave it out, or pass the "
                             "tiles by themselves")
        from apps.pathology.many import folders

        places = folders(slides, options.out)
    if tiles:
        judge_tiles(tiles, options)
    for slide, folder in places.items():
        map_slide(slide, folder, options)


def is_slide(path: Path) -> bool:
    """True for the endings of slide formats; a small TIFF may be a tile."""
    if path.suffix.lower() not in SLIDE_ENDINGS:
        return path.is_dir()
    if path.suffix.lower() not in (".tif", ".tiff"):
        return True
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.width * image.height > LARGEST_TILE
    except OSError:
        return True  # the slide reader knows more formats, and says what is wrong
    except Image.DecompressionBombError:
        return True


def judge_tiles(files: list[Path], options: Options) -> None:
    """Prints one line per tile."""
    from apps.pathology.picture import read_picture
    from apps.pathology.predict import as_tiles, load
    from apps.pathology.reading import overlay, png, read
    from core.files import write

    if options.saliency:
        options.saliency.mkdir(parents=True, exist_ok=True)  # before the work, if it cannot be
    images = [as_tiles(_named(file, read_picture(file), options.mpp), options.mpp)[0] for file in files]
    predictor = load(options.weights, options.device, alpha=options.alpha)
    result = predictor(images, symmetries=options.symmetries)
    table = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
    if not options.json:
        table.writerow(("probability", "answer", "file"))
    for file, probability, uncertain in zip(files, result.probability, result.uncertain, strict=True):
        answer = read(str(file), probability, uncertain).answer
        if options.json:
            print(json.dumps({"file": str(file), "probability": round(float(probability), 4),
                              "uncertain": bool(uncertain), "answer": answer}))
        else:
            table.writerow((f"{probability:.4f}", answer, file))
    if options.saliency:
        for file, tile, cam in zip(files, result.tiles, result.saliency(), strict=True):
            write(options.saliency / f"{file.stem}.png", partial(_put, png(overlay(tile, cam))))


def _put(data: bytes, file: Any) -> None:
    file.write(data)


def _named(file: Path, image: Any, mpp: float | None) -> Any:
    from apps.pathology.predict import as_tiles

    try:
        as_tiles(image, mpp)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return image


def map_slide(path: Path, folder: Path, options: Options) -> None:
    """Scores one slide and writes all forms of its map into a folder."""
    from apps.pathology import export
    from apps.pathology.predict import load
    from apps.pathology.reader import open_slide
    from core.card import brief
    from core.log import Progress

    open_slide(path).close()  # what cannot be read is told before a model is loaded
    predictor = load(options.weights, options.device, alpha=options.alpha)
    with Progress(0, path.name, "tile") as bar:
        result = predictor.slide(path, options.mpp, progress=bar.update, out=folder)
    export.publish_files(export.files(result), folder)
    summary = result.summary()
    print(json.dumps(brief({"slide": str(path), "out": str(folder), **{key: summary[key] for key in SHOWN}})))


if __name__ == "__main__":
    cli.main(main)
