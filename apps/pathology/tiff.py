"""TIFF as a source of chunks: pyramids tile by tile, plain pictures whole or mapped, any samples as 8-bit RGB.

Legend: H, W height and width in pixels of a level; S samples per pixel.
"""

import contextlib
import io
import itertools
import logging
import math
import re
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from apps.pathology.sources import (
    ADVICE,
    TILE_LIMIT,
    WHOLE_LIMIT,
    ArraySource,
    Source,
    check_tile,
    number,
    on_white,
    short,
)

_MICRONS = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it warns of is said by our own errors


class TiledTiffSource:
    """Decodes single tiles of a TIFF pyramid (levels as pages or as SubIFDs), never more than it is asked for."""

    def __init__(self, file: tifffile.TiffFile, levels: list[list[Any]], mpp: tuple[float, float] | None):
        self._file, self._levels, self.mpp = file, levels, mpp
        self._lock = threading.Lock()  # seek and read belong together; decoding runs outside the lock
        keys = [pages[0].keyframe for pages in levels]
        self.sizes = [(key.imagewidth, key.imagelength) for key in keys]
        self.chunks = [(key.tilewidth, key.tilelength) for key in keys]
        self._colours = [Colour(key, len(pages)) for key, pages in zip(keys, levels, strict=True)]
        for width, height in self.chunks:
            check_tile("the TIFF", width, height)

    def chunk(self, level: int, column: int, row: int) -> np.ndarray | None:
        pages, (width, height) = self._levels[level], self.sizes[level]
        across, down = (math.ceil(n / c) for n, c in zip((width, height), self.chunks[level], strict=True))
        key = pages[0].keyframe
        planes = key.samplesperpixel if int(key.planarconfig) == 2 else 1
        parts = [
            self._tile(page, key, plane * across * down + row * across + column)
            for page in pages
            for plane in range(planes)
        ]
        present = [part for part in parts if part is not None]
        if not present:
            return None
        whole = [np.zeros_like(present[0]) if part is None else part for part in parts]
        samples = whole[0] if len(whole) == 1 else np.concatenate(whole, axis=-1)  # (H, W, S)
        column_left, row_left = width - column * self.chunks[level][0], height - row * self.chunks[level][1]
        return self._colours[level](samples[:row_left, :column_left])

    def _tile(self, page: Any, key: Any, index: int) -> np.ndarray | None:
        if index >= min(len(page.dataoffsets), len(page.databytecounts)):
            raise ValueError(f"the TIFF is damaged: tile {index} is not listed")
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if count == 0:  # a sparse TIFF leaves empty tiles out
            return None
        with self._lock:
            self._file.filehandle.seek(offset)
            data = self._file.filehandle.read(count)
        if len(data) < count:
            raise ValueError(f"the TIFF is truncated: tile {index} wants {count} bytes and {len(data)} are there")
        _check_picture(key, data, f"tile {index}")
        jpeg = int(key.compression) in (6, 7, 33007, 34892)
        options = {"jpegtables": key.jpegtables, "jpegheader": key.jpegheader} if jpeg else {}
        try:
            pixels, _, _ = key.decode(data, index, **options)
        except Exception as error:  # codecs raise types of their own
            raise ValueError(f"the TIFF is damaged at tile {index} ({short(error)})") from error
        return None if pixels is None else pixels[0]  # (1, H, W, S) -> (H, W, S)

    def close(self) -> None:
        self._file.close()


class Colour:
    """Turns the samples of a TIFF page, whatever they mean, into 8-bit RGB on white."""

    def __init__(self, key: Any, pages: int = 1):
        self.kind = int(key.photometric)
        self.bits = int(key.bitspersample if isinstance(key.bitspersample, int) else max(key.bitspersample))
        self.map = None if key.colormap is None else (key.colormap.T >> 8).astype(np.uint8)  # (entries, 3)
        colours = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}.get(self.kind)
        samples = key.samplesperpixel * pages
        if colours is None:
            raise ValueError(f"the TIFF's colours ({key.photometric!s}) are not read; save it as 8-bit RGB")
        if colours == 1 and self.kind == 1 and samples == 3:  # three planes that nobody called RGB
            colours = 3
        if samples < colours or np.dtype(key.dtype).kind not in "ub" or self.bits > 16:
            raise ValueError(f"the TIFF has {samples} samples of type {key.dtype}; 8- or 16-bit grey or RGB is wanted")
        if samples > colours + 1 or (samples > colours and not key.extrasamples):
            raise ValueError(f"the TIFF has {samples} channels; grey, RGB, RGBA or CMYK is wanted")
        self.colours = colours
        extra = [int(e) for e in key.extrasamples][:1]
        self.alpha = extra[0] if extra and extra[0] in (1, 2) else 0  # 1 premultiplied, 2 not, 0 no alpha
        self.subtractive = self.kind == 6 and int(key.compression) not in (6, 7, 33007, 34892, 34933, 50001, 50002)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return (H, W, 3) uint8 of (H, W, S) samples."""
        if self.kind == 3:
            assert self.map is not None
            return self.map[np.minimum(samples[..., 0], len(self.map) - 1)]
        if self.bits > 8:
            samples = (samples >> (self.bits - 8)).astype(np.uint8)  # full scale is taken as white
        elif self.bits < 8:
            samples = (samples.astype(np.uint8) * (255 // (2**self.bits - 1))).astype(np.uint8)
        colour = samples[..., : self.colours]
        if self.kind == 0:
            colour = 255 - colour
        elif self.kind == 5:  # CMYK: ink takes light away
            light = 255 - colour.astype(np.uint16)
            colour = ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)
        elif self.subtractive:
            colour = np.asarray(Image.fromarray(np.ascontiguousarray(colour), "YCbCr").convert("RGB"))
        if colour.shape[-1] == 1:
            colour = np.repeat(colour, 3, axis=-1)
        if not self.alpha:
            return np.ascontiguousarray(colour)
        alpha = samples[..., self.colours : self.colours + 1]
        if self.alpha == 1:  # premultiplied: only the white behind is missing
            return np.minimum(colour.astype(np.uint16) + (255 - alpha), 255).astype(np.uint8)
        return on_white(np.concatenate([colour, alpha], axis=-1))


def tiff_source(path: Path) -> Source:
    """Open a TIFF: tiled ones tile by tile, others whole if small, mapped if uncompressed, else refused."""
    try:
        file = tifffile.TiffFile(path)
    except Exception as error:  # a damaged header raises many types
        raise ValueError(f"{path.name} is a damaged or truncated TIFF ({short(error)})") from error
    with contextlib.ExitStack() as stack:
        stack.callback(file.close)
        try:
            levels = _tiff_levels(file)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
        except Exception as error:
            raise ValueError(f"{path.name} is a damaged or truncated TIFF ({short(error)})") from error
        try:
            mpp, key = tiff_mpp(file, levels[0][0].keyframe), levels[0][0].keyframe
            if not key.is_tiled:
                return ArraySource(*_tiff_whole(path, file, levels[0]))
            levels = [pages for pages in levels if pages[0].keyframe.is_tiled]
            source = TiledTiffSource(file, levels, mpp)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
        stack.pop_all()
        return source


def _tiff_levels(file: Any) -> list[list[Any]]:
    """Return the pages of each level, largest first."""
    if not file.series:
        raise ValueError("the TIFF holds no picture; it may be truncated")
    series = max(file.series, key=lambda s: s.keyframe.imagewidth * s.keyframe.imagelength)
    pages = [page for page in series.pages if page is not None]
    if len(pages) > 1 and not (len(pages) == 3 and pages[0].keyframe.samplesperpixel == 1 and "C" in series.axes):
        raise ValueError(f"the TIFF is a stack of {len(pages)} pictures; one plane is wanted")
    if pages[0].keyframe.imagedepth > 1:
        raise ValueError(f"the TIFF is a volume of {pages[0].keyframe.imagedepth} planes; one plane is wanted")
    levels = [[page for page in level.pages if page is not None] for level in series.levels]
    if len(levels) > 1:
        return levels
    base = pages[0].keyframe  # smaller tiled pages of the same shape are levels too, though nothing ties them together
    for page in itertools.islice(file.pages, 64):
        key, scale = page.keyframe, base.imagewidth / max(page.keyframe.imagewidth, 1)
        alike = key.is_tiled and key.photometric == base.photometric and len(pages) == 1
        if scale > 1.5 and alike and abs(base.imagelength / scale - key.imagelength) <= 1.5:
            levels.append([page])
    return sorted(levels, key=lambda level: -level[0].keyframe.imagewidth)


def _tiff_whole(path: Path, file: tifffile.TiffFile, pages: list[Any]) -> tuple[np.ndarray, Any, Colour | None]:
    """Return pixels (H, W, S), microns per pixel and what the samples mean, of a TIFF without tiles."""
    key, mpp = pages[0].keyframe, tiff_mpp(file, pages[0].keyframe)
    colour, area = Colour(key, len(pages)), key.imagewidth * key.imagelength
    if area <= WHOLE_LIMIT:
        for page in pages if int(key.compression) in tifffile.TIFF.IMAGE_COMPRESSIONS else ():
            for index, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=False)):
                file.filehandle.seek(offset)
                _check_picture(key, file.filehandle.read(count), f"strip {index}")
        try:
            parts = [page.asarray().reshape(key.shaped) for page in pages]  # (S', 1, H, W, S'')
        except Exception as error:
            raise ValueError(f"the TIFF is truncated or damaged ({short(error)})") from error
        whole = [np.concatenate(list(part[:, 0]), axis=-1) for part in parts]
        return np.concatenate(whole, axis=-1), mpp, colour
    plain = int(key.compression) == 1 and int(key.predictor) == 1 and _gapless(key) and len(pages) == 1
    if not plain or (int(key.planarconfig) == 2 and key.samplesperpixel > 1):
        raise ValueError(f"{key.imagewidth} x {key.imagelength} pixels in one piece are too many; {ADVICE}")
    shape = (key.imagelength, key.imagewidth, key.samplesperpixel)
    dtype = np.dtype(key.dtype).newbyteorder(file.byteorder)
    try:
        return np.memmap(path, dtype, "r", key.dataoffsets[0], shape), mpp, colour
    except (OSError, ValueError) as error:
        raise ValueError(f"the TIFF is truncated ({short(error)})") from error


def _check_picture(key: Any, data: bytes, where: str) -> None:
    """Raise ValueError for a tile that is a picture in itself, such as a JPEG, and says that it is far too large.

    Decoders believe it, not the TIFF: 65,500 x 65,500 pixels of one colour are a few MB, and 13 GB in memory.
    """
    if int(key.compression) not in tifffile.TIFF.IMAGE_COMPRESSIONS or not data:
        return
    try:
        file = io.BytesIO((key.jpegheader or b"") + data)
        size = Image.open(file, formats=("JPEG", "JPEG2000", "WEBP", "PNG")).size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"the TIFF is damaged: {where} claims far too many pixels") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"the TIFF's {where} is damaged, or no JPEG, JPEG 2000, WebP or PNG; {ADVICE}") from error
    if math.prod(size) > (TILE_LIMIT if key.is_tiled else WHOLE_LIMIT):
        raise ValueError(f"the TIFF is damaged: {where} claims {size[0]:,} x {size[1]:,} pixels")


def _gapless(key: Any) -> bool:
    """Tell whether the strips of a page lie one behind the other, in whole bytes."""
    ends = np.add(key.dataoffsets, key.databytecounts)
    return key.bitspersample % 8 == 0 and bool(np.all(ends[:-1] == np.asarray(key.dataoffsets[1:])))


def tiff_mpp(file: tifffile.TiffFile, key: Any) -> tuple[float, float] | None:
    """Return microns per pixel in x and y from OME-XML, an Aperio description or the resolution tags."""
    if file.ome_metadata:
        with contextlib.suppress(ElementTree.ParseError, KeyError, ValueError):
            for node in ElementTree.fromstring(file.ome_metadata).iter():
                if node.tag.endswith("}Pixels") and "PhysicalSizeX" in node.attrib:
                    x, y = node.attrib["PhysicalSizeX"], node.attrib.get("PhysicalSizeY", node.attrib["PhysicalSizeX"])
                    units = [_MICRONS[node.attrib.get(f"PhysicalSize{axis}Unit", "µm")] for axis in "XY"]
                    return float(x) * units[0], float(y) * units[1]
    if file.is_svs and (found := re.search(r"\|\s*MPP\s*=\s*([\d.]+)", key.description or "")):
        return number(found[1]), number(found[1])
    if "XResolution" not in key.tags or "YResolution" not in key.tags:
        return None
    unit = int(key.tags["ResolutionUnit"].value) if "ResolutionUnit" in key.tags else 2
    micron = {2: 25_400.0, 3: 10_000.0, 4: 1_000.0, 5: 1.0}.get(unit)
    if micron is None and file.is_imagej:
        micron = _MICRONS.get(str((file.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ"))
    values = [key.tags[f"{axis}Resolution"].value for axis in "XY"]
    if micron is None or any(over == 0 or under == 0 for over, under in values):
        return None
    return micron * values[0][1] / values[0][0], micron * values[1][1] / values[1][0]
