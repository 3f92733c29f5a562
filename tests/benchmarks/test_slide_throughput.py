from pathlib import Path

import numpy as np
import pytest

from benchmarks.slide_throughput import openslide_rate, pipeline_rate
from tests.apps.pathology.slides import colour_score, tissue_picture, write_slide


def test_both_ways_read_the_same_cells(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", tissue_picture(700, 500), mpp=0.486)
    seen: list[int] = []

    def score(tiles: np.ndarray) -> np.ndarray:
        seen.append(len(tiles))
        return colour_score(tiles)

    rate, mask = pipeline_rate(path, 0.486, score, readers=1)
    assert sum(seen) == mask.sum() > 10
    assert rate > 0
    assert openslide_rate(path, 0.486, mask, 5) > 0


def test_a_slide_without_tissue_is_refused(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "glass.tif", np.full((500, 500, 3), 244, np.uint8))
    with pytest.raises(ValueError, match=r"no tissue was found on glass\.tif"):
        pipeline_rate(path, 0.486, colour_score, readers=1)
