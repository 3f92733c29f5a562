"""Synthetic tissue that looks like H&E at low power: eosin texture and haematoxylin nuclei, mixed as light is.

Everything is drawn as amounts of two dyes and turned into colour by the Beer-Lambert law,
`I = I0 * 10 ** -(h H + e E)`, so a stain augmentation in optical-density space sees what it would see on a real slide.
It is a drawing, not a patient: good for tests, examples and a newcomer's first minute, of no use for measuring a model.

Legend: H, W pixels of the field; lengths in micrometres unless said otherwise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WHITE = np.array([244.0, 243.0, 246.0])  # the lamp, as a scanner sees empty glass


@dataclass(frozen=True)
class Stain:
    """Optical density (log10) of one unit of each dye in red, green and blue."""

    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]


# Two scanners: 0 is pink-brown, 1 is blue-purple. The share of blue in the optical density tells them apart at 0.255.
STAINS = (
    Stain(haematoxylin=(0.58, 0.76, 0.52), eosin=(0.07, 0.30, 0.22)),
    Stain(haematoxylin=(0.52, 0.76, 0.24), eosin=(0.04, 0.33, 0.09)),
)


def noise(shape: tuple[int, int], scale: float, rng: np.random.Generator, stretch: float = 1.0) -> NDArray[np.float64]:
    """Gives smooth noise of mean 0 and variance 1, float64 (H, W), `scale` and `scale * stretch` pixels fine."""
    height, width = shape
    fy = np.fft.fftfreq(height)[:, None] * scale
    fx = np.fft.rfftfreq(width)[None, :] * scale * stretch
    angle = rng.uniform(0, np.pi)
    # rotating the frequencies turns the fibres, so that no field has them along its edges
    u = fx * np.cos(angle) / stretch + fy * np.sin(angle)
    v = (-fx * np.sin(angle) / stretch + fy * np.cos(angle)) * stretch
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) * np.exp(-0.5 * (2 * np.pi * 0.5) ** 2 * (u**2 + v**2))
    field = np.fft.irfft2(spectrum, s=shape)
    return (field - field.mean()) / max(float(field.std()), 1e-9)


def soften(mask: NDArray[np.bool_], rounds: int = 2) -> NDArray[np.float64]:
    """Gives float64 (H, W) in [0, 1]: the mask with its edge blurred over about `rounds` pixels."""
    field = mask.astype(np.float64)
    for _ in range(rounds):
        for axis in (0, 1):
            padded = np.pad(field, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
            size = field.shape[axis]
            low, high = np.take(padded, range(size), axis), np.take(padded, range(2, size + 2), axis)
            field = 0.25 * low + 0.5 * field + 0.25 * high
    return field


def scatter(
    shape: tuple[int, int], distance: float, count: int, rng: np.random.Generator, allowed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Gives up to `count` random points (n, 2), (y, x) in pixels, all `allowed`, no two closer than `distance`."""
    cell = max(distance, 1.0)
    grid: dict[tuple[int, int], list[tuple[float, float]]] = {}
    kept: list[tuple[float, float]] = []
    for y, x in rng.uniform(0, 1, (count * 4, 2)) * shape:
        if len(kept) >= count:
            break
        if not allowed[int(y), int(x)]:
            continue
        gy, gx = int(y / cell), int(x / cell)
        near = (p for i in (-1, 0, 1) for j in (-1, 0, 1) for p in grid.get((gy + i, gx + j), ()))
        if all((y - py) ** 2 + (x - px) ** 2 >= distance**2 for py, px in near):
            kept.append((y, x))
            grid.setdefault((gy, gx), []).append((y, x))
    return np.array(kept).reshape(-1, 2)


def stamp(
    field: NDArray[np.float64],
    inside: NDArray[np.bool_],
    centre: NDArray[np.float64],
    radius: float,
    rng: np.random.Generator,
    *,
    dark: float,
    ragged: float,
    stretch: float,
    rim: float,
    nucleoli: int,
    edge: float,
) -> None:
    """Draws a nucleus of `radius` pixels into the haematoxylin `field` (H, W) and marks it in `inside` (H, W)."""
    height, width = field.shape
    reach = radius * (1 + 2 * ragged) * stretch + 3
    y0, y1 = max(0, int(centre[0] - reach)), min(height, int(centre[0] + reach) + 2)
    x0, x1 = max(0, int(centre[1] - reach)), min(width, int(centre[1] + reach) + 2)
    if y0 >= y1 or x0 >= x1:
        return
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float64)
    turn = rng.uniform(0, np.pi)
    dy, dx = y - centre[0], x - centre[1]
    u = (dx * np.cos(turn) + dy * np.sin(turn)) / np.sqrt(stretch)
    v = (-dx * np.sin(turn) + dy * np.cos(turn)) * np.sqrt(stretch)
    angle = np.arctan2(v, u)
    outline = np.ones_like(angle)
    for k in (2, 3, 5):
        outline += ragged * rng.uniform(0.2, 1) / np.sqrt(k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    depth = outline * radius - np.hypot(u, v)  # pixels below the surface, negative outside
    body = 1 / (1 + np.exp(-depth / edge))
    # chromatin gathers at the membrane: a dark rim around a paler middle
    amount = dark * (1 - rim + rim * np.exp(-((depth / (0.35 * radius + 1)) ** 2)))
    for _ in range(nucleoli):
        ny, nx = centre + rng.uniform(-0.4, 0.4, 2) * radius
        amount = amount + 0.45 * np.exp(-((y - ny) ** 2 + (x - nx) ** 2) / (0.22 * radius) ** 2)
    patch = field[y0:y1, x0:x1]
    np.maximum(patch, body * amount, out=patch)
    inside[y0:y1, x0:x1] |= depth > 0


def render(
    tissue: NDArray[np.bool_],
    tumour: NDArray[np.bool_],
    rng: np.random.Generator,
    stain: Stain,
    *,
    mpp: float = 0.972,
    density: float = 0.5,
    grain: float = 0.02,
    step: int = 8,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draws a field of tissue.

    `tissue` and `tumour` bool (H, W) say where there is tissue and which of it is tumour; `density` in [0, 1] is how
    crowded the lymphocytes are; `grain` is the camera's noise in optical density; colours are rounded to multiples of
    `step`, which halves the size of a lossless file. Gives the picture uint8 (H, W, 3) RGB and bool (H, W), true on the
    pixels of tumour nuclei.
    """
    shape = (tissue.shape[0], tissue.shape[1])
    px = 1 / mpp  # pixels in a micrometre
    tumour = tumour & tissue
    soft = np.clip(0.5 + noise(shape, 14 * px, rng) * 0.25, 0, 1)
    fibres = noise(shape, 3.5 * px, rng, stretch=4)
    cover, cells = soften(tissue), soften(tumour)
    # tumour cells have a fuller, slightly basophilic cytoplasm
    eosin = cover * (0.42 + 0.3 * soft + 0.13 * fibres + 0.12 * cells)
    haze = 0.07 * cover + 0.09 * cells
    blue = np.zeros(shape)
    elsewhere, malignant = np.zeros(shape, bool), np.zeros(shape, bool)
    area = tissue.size * mpp**2

    small = scatter(shape, (4.9 + 4 * (1 - density)) * px, int(area * (0.008 + 0.014 * density)), rng, tissue & ~tumour)
    for centre in small:
        spindle = rng.uniform() < 0.12
        stamp(
            blue, elsewhere, centre, rng.uniform(2.5, 3.4) * px, rng,
            dark=rng.uniform(0.8, 1.1), ragged=0.05, stretch=rng.uniform(2.2, 3.2) if spindle else rng.uniform(1, 1.2),
            rim=0.15, nucleoli=0, edge=0.45 * px + 0.1,
        )  # fmt: skip
    large = scatter(shape, 9.5 * px, int(area * 0.012), rng, tumour)
    for centre in large:
        stamp(
            blue, malignant, centre, rng.uniform(4.6, 7.4) * px, rng,
            dark=rng.uniform(0.7, 1.05), ragged=rng.uniform(0.1, 0.26), stretch=rng.uniform(1, 1.5),
            rim=rng.uniform(0.25, 0.5), nucleoli=int(rng.integers(1, 3)), edge=0.5 * px + 0.1,
        )  # fmt: skip
    malignant &= tissue
    blue = cover * np.maximum(blue, haze) * (1 + 0.12 * noise(shape, 2.2 * px, rng))
    eosin = np.clip(eosin * (1 - 0.6 * np.clip(blue, 0, 1)), 0, None)

    od = blue[..., None] * np.array(stain.haematoxylin) + eosin[..., None] * np.array(stain.eosin)  # (H, W, 3)
    od += grain * noise(shape, 1.2, rng)[..., None] * (0.15 + od)
    rgb = WHITE * 10.0 ** -np.clip(od, 0, None)
    return np.clip(np.rint(rgb / step) * step, 0, 255).astype(np.uint8), malignant
