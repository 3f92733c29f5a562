"""Writes a slide's result for other programs: QuPath GeoJSON, PNG overlay, pyramidal TIFF, parquet.

Every writer takes a binary stream, so that a file appears whole (`core.files`) or travels as bytes.
"""

import io
import json
import math
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from core.files import write as publish

if TYPE_CHECKING:
    from apps.pathology.heatmap import SlideResult

NAMES = ("tiles.geojson", "overlay.png", "probability.tiff", "tiles.parquet", "summary.json", "slide.npz")
"""What the folder of a finished slide holds, in the order in which it is written."""
DECLINED = (150, 150, 150)
TUMOUR = {"name": "Tumor", "color": [200, 0, 0]}  # QuPath's own class and colour
_NAMESPACE = uuid.UUID("5b0d1d2e-3f0b-5c55-9a49-6c9a0b6f8f11")  # ours; ids then depend on slide, model and place only


def publish_files(files: Mapping[str, bytes], folder: str | Path) -> None:
    """Write named bytes into a folder, each whole, in the order given: the last one says that all are there."""
    for name, data in files.items():
        publish(Path(folder) / name, partial(_put, data))


def _put(data: bytes, stream: IO[bytes]) -> None:
    stream.write(data)


def files(result: "SlideResult", threshold: float = 0.5) -> dict[str, bytes]:
    """Return every export as bytes, by the file names of `NAMES`; `slide.npz` comes last."""
    written: list[bytes] = []
    for write in (
        lambda stream: geojson(result, stream, threshold),
        lambda stream: png(result, stream),
        lambda stream: tiff(result, stream),
        lambda stream: parquet(result, stream),
    ):
        stream = io.BytesIO()
        write(stream)
        written.append(stream.getvalue())
    summary = json.dumps(result.summary(threshold), indent=2).encode()
    return dict(zip(NAMES, [*written, summary, result.to_bytes()], strict=True))


def geojson(result: "SlideResult", stream: IO[bytes], threshold: float = 0.5) -> None:
    """Write a FeatureCollection for QuPath: lesion contours as annotations, then every scored cell as a tile.

    Coordinates are level-0 pixels; rings are closed; ids are the same for the same slide, model and place.
    """
    stream.write(b'{"type": "FeatureCollection", "features": [')
    first = True
    for feature in _features(result, threshold):
        stream.write((b"\n" if first else b",\n") + json.dumps(feature).encode())
        first = False
    stream.write(b"\n]}\n")


def _features(result: "SlideResult", threshold: float) -> Any:
    for lesion, shape in zip(result.lesions(threshold), contours(result, threshold), strict=True):
        yield {
            "type": "Feature",
            "id": _id(result, "lesion", *lesion.centroid, lesion.cells, threshold),
            "geometry": shape,
            "properties": {
                "objectType": "annotation",
                "name": f"lesion {lesion.number}",
                "isLocked": False,
                "classification": TUMOUR,
                "measurements": {
                    "tumour probability mean": lesion.mean,
                    "tumour probability max": lesion.max,
                    "area mm2": lesion.area_mm2,
                },
            },
        }
    for row, column, x, y, width, height, probability in result.tiles():
        ring = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
        measurements: dict[str, float] = {"tumour probability": round(probability, 6)}
        if result.uncertain is not None:
            measurements["uncertain"] = int(result.uncertain[row, column])
        yield {
            "type": "Feature",
            "id": _id(result, "tile", row, column),
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"objectType": "tile", "isLocked": True, "measurements": measurements},
        }


def contours(result: "SlideResult", threshold: float = 0.5) -> list[dict[str, Any]]:
    """Return one GeoJSON geometry a lesion, in the order of `result.lesions`: polygons with holes, level-0 pixels."""
    import shapely
    from scipy import ndimage

    labels, (xs, ys), shapes = result.lesion_map(threshold), result.edges(), []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = np.pad((labels[rows, columns] == number).astype(np.int8), ((0, 0), (1, 1)))
        turns = np.diff(inside, axis=1)  # 1 where a run of cells begins, -1 where it has ended
        row, begin = np.nonzero(turns == 1)
        _, end = np.nonzero(turns == -1)
        row, begin, end = row + rows.start, begin + columns.start, end + columns.start
        union = shapely.union_all(shapely.box(xs[begin], ys[row], xs[end], ys[row + 1]))
        shapes.append(shapely.geometry.mapping(shapely.orient_polygons(union.normalize())))
    return shapes


def _id(result: "SlideResult", *place: object) -> str:
    return str(uuid.uuid5(_NAMESPACE, json.dumps([result.slide, result.model, result.stride, *place])))


def tiff(result: "SlideResult", stream: IO[bytes]) -> None:
    """Write the map as a tiled, pyramidal grey TIFF that OpenSlide, QuPath and tifffile read.

    Value 0 means no tissue, v > 0 a probability of (v - 1) / 254. The resolution tags say the microns per cell, so the
    map lies on the slide when both are shown in microns from the same corner.
    """
    import tifffile

    scored = np.isfinite(result.heatmap)
    level, cover = np.where(scored, result.heatmap, 0).astype(np.float32), scored.astype(np.float32)
    scale, kind = 1, 0
    says = f"{result.slide}: tumour probability; value 0 no tissue, v > 0 means (v - 1) / 254; model {result.model}"
    with tifffile.TiffWriter(stream) as writer:
        while True:
            with np.errstate(invalid="ignore"):
                values = np.where(cover > 0, 1 + np.rint(254 * np.clip(level / cover, 0, 1)), 0).astype(np.uint8)
            writer.write(
                values,
                tile=(256, 256),
                compression="zlib",
                photometric="minisblack",
                subfiletype=kind,
                resolution=(10_000 / (result.mpp * scale),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
                description=says.encode("ascii", "replace") if kind == 0 else None,
                software="wunderkammer",
            )
            if max(values.shape) <= 64:
                return
            level, cover, scale, kind = _half(level), _half(cover), scale * 2, 1


def _half(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape
    even = np.pad(plane, ((0, height % 2), (0, width % 2)))
    return even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).sum(axis=(1, 3))


def parquet(result: "SlideResult", stream: IO[bytes]) -> None:
    """Write one row a scored cell; the file's metadata holds slide, model, microns per pixel."""
    import pyarrow as pa
    import pyarrow.parquet

    rows, columns = np.nonzero(np.isfinite(result.heatmap))
    xs, ys = result.edges()
    table = {
        "row": rows.astype(np.int32),
        "col": columns.astype(np.int32),
        "x": xs[columns],
        "y": ys[rows],
        "width": (xs[columns + 1] - xs[columns]).astype(np.int32),
        "height": (ys[rows + 1] - ys[rows]).astype(np.int32),
        "probability": result.heatmap[rows, columns],
    }
    if result.uncertain is not None:
        table["uncertain"] = result.uncertain[rows, columns]
    facts = {"slide": result.slide, "model": result.model, "slide_mpp": str(result.slide_mpp), "mpp": str(result.mpp)}
    pyarrow.parquet.write_table(pa.table(table).replace_schema_metadata(facts), stream)


def overlay(result: "SlideResult") -> np.ndarray:
    """Return (h, w, 4) uint8 RGBA of the map alone, one pixel a cell: viridis, grey where the model declines to answer,
    clear outside tissue."""
    from matplotlib import colormaps

    scored = np.isfinite(result.heatmap)
    rgba = (colormaps["viridis"](np.where(scored, result.heatmap, 0)) * 255).round().astype(np.uint8)
    rgba[..., 3] = np.where(scored, 255, 0)
    if result.uncertain is not None:
        rgba[result.uncertain & scored, :3] = DECLINED
    return rgba


def png(result: "SlideResult", stream: IO[bytes]) -> None:
    """Write the map over the slide's thumbnail, with a scale bar and a legend below."""
    from matplotlib import colormaps
    from PIL import Image, ImageDraw, ImageFont

    slide = Image.fromarray(result.thumbnail)
    grow = max(1, math.ceil(512 / max(slide.size)))
    slide = slide.resize((slide.width * grow, slide.height * grow), Image.Resampling.LANCZOS)
    pixel_um = result.slide_size[0] * result.slide_mpp / slide.width
    cells = overlay(result)
    share = np.nan_to_num(result.heatmap, nan=0.0)
    cells[..., 3] = np.where(cells[..., 3] > 0, 60 + 130 * share, 0).astype(np.uint8)  # the likely stands out
    height, width = result.heatmap.shape
    reach = (round(width * result.mpp / pixel_um), round(height * result.mpp / pixel_um))
    layer = Image.new("RGBA", slide.size)
    layer.paste(Image.fromarray(cells).resize(reach, Image.Resampling.NEAREST), (0, 0))
    slide = Image.alpha_composite(slide.convert("RGBA"), layer).convert("RGB")

    canvas = Image.new("RGB", (max(slide.width, 560), slide.height + 72), "white")
    canvas.paste(slide, (0, 0))
    draw, font, top = ImageDraw.Draw(canvas), ImageFont.load_default(14), slide.height
    length = _round_length(min(slide.width, 400) * 0.5 * pixel_um)
    draw.rectangle((12, top + 14, 12 + round(length / pixel_um), top + 20), fill="black")
    draw.text((12, top + 24), f"{length / 1000:g} mm", "black", font)
    ramp = (colormaps["viridis"](np.linspace(0, 1, 200))[:, :3] * 255).round().astype(np.uint8)
    left = canvas.width - 232
    canvas.paste(Image.fromarray(np.repeat(ramp[None], 12, axis=0)), (left, top + 12))
    for tick in (0, 0.5, 1):
        draw.text((left + 200 * tick, top + 26), f"{tick:g}", "black", font, anchor="ma")
    draw.text((left + 100, top + 42), "tumour probability", "black", font, anchor="ma")
    if result.uncertain is not None:
        draw.rectangle((left - 96, top + 12, left - 84, top + 24), fill=DECLINED)
        draw.text((left - 78, top + 10), "declines", "black", font)
    draw.text((12, top + 48), f"{result.slide}  ·  research use only"[:60], "#555555", font)
    canvas.save(stream, "PNG")


def _round_length(microns: float) -> float:
    """Return the largest of 1, 2 or 5 times a power of ten that is not longer."""
    power = 10.0 ** math.floor(math.log10(microns))
    return max(step * power for step in (1, 2, 5) if step * power <= microns)
