import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.pathology.froc import RATES, Detection, detections, froc

D = Detection


def slow(found: list[list[Detection]], lesions: list[np.ndarray]) -> dict[float, float]:
    """Go through every threshold and every lesion by hand."""
    points = [(i, d) for i, slide in enumerate(found) for d in slide]
    total = sum(len(set(truth.ravel().tolist()) - {0, -1}) for truth in lesions)
    curve = [(0.0, 0.0)]
    for threshold in sorted({d.confidence for _, d in points}, reverse=True):
        hit, wrong = set(), 0
        for i, d in points:
            if d.confidence >= threshold:
                value = lesions[i][d.row, d.column]
                if value > 0:
                    hit.add((i, value))
                elif value == 0:
                    wrong += 1
        if any(lesions[i][d.row, d.column] != -1 for i, d in points if d.confidence == threshold):
            curve.append((wrong / len(lesions), len(hit) / total))
    at = {}
    for rate in RATES:
        before = max(point for point in curve if point[0] <= rate)
        after = [point for point in curve if point[0] > rate]
        if not after:
            at[rate] = before[1]
        else:
            x, y = min(after)
            at[rate] = before[1] + (y - before[1]) * (rate - before[0]) / (x - before[0])
    return at


def two_lesions() -> np.ndarray:
    truth = np.zeros((10, 10), int)
    truth[:3, :3], truth[6:9, 6:9], truth[0, 9] = 1, 2, -1
    return truth


def test_perfect() -> None:
    result = froc([[D(1, 1, 0.9), D(7, 7, 0.8)], []], [two_lesions(), np.zeros((4, 4), int)])
    assert result.score == 1
    assert set(result.at) == set(RATES)
    assert (result.slides, result.lesions) == (2, 2)


def test_by_hand() -> None:
    """One lesion before the first false alarm, the other after it: 2 slides, so one alarm is half a false positive."""
    found = [[D(1, 1, 0.9), D(5, 0, 0.7), D(7, 7, 0.6)], []]
    result = froc(found, [two_lesions(), np.zeros((4, 4), int)])
    assert result.false_positives.tolist() == [0, 0, 0.5, 0.5]
    assert result.sensitivity.tolist() == [0, 0.5, 0.5, 1]
    assert result.at == {0.25: 0.5, 0.5: 1, 1: 1, 2: 1, 4: 1, 8: 1}
    assert result.score == pytest.approx(5.5 / 6)


def test_a_lesion_counts_once_and_alarms_each() -> None:
    inside = [D(0, 0, 0.9), D(1, 1, 0.8), D(2, 2, 0.7)]
    outside = [D(4, 0, 0.95), D(4, 1, 0.95)]
    result = froc([inside + outside], [two_lesions()])
    assert result.false_positives[-1] == 2
    assert result.sensitivity[-1] == 0.5


def test_ignored_regions_are_neither() -> None:
    with_, without = ([[D(1, 1, 0.5), *extra]] for extra in ([D(0, 9, 0.9)], []))
    assert froc(with_, [two_lesions()]).at == froc(without, [two_lesions()]).at


def test_nothing_found() -> None:
    result = froc([[], []], [two_lesions(), two_lesions()])
    assert result.score == 0


point = st.builds(D, st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.lists(point, max_size=25), min_size=1, max_size=3), st.integers(0, 10**6))
def test_agrees_with_the_slow_count(found: list[list[Detection]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    lesions = [rng.choice([-1, 0, 1, 2, 3], (10, 10), p=[0.1, 0.6, 0.1, 0.1, 0.1]) for _ in found]
    assert froc(found, lesions).at == pytest.approx(slow(found, lesions))


def test_detections_are_peaks_apart() -> None:
    heatmap = np.full((30, 40), np.nan)
    heatmap[5:25, 5:35] = 0.01
    heatmap[8:12, 8:12] = 0.6
    heatmap[10, 10] = 0.9
    heatmap[20, 30] = 0.7
    assert detections(heatmap, radius=6) == [D(10, 10, 0.9), D(20, 30, 0.7)]
    assert [d.confidence for d in detections(heatmap, radius=1)].count(0.6) > 2
    assert detections(heatmap, least=0.95) == []
    assert detections(np.full((3, 3), np.nan)) == []
    everywhere = detections(np.ones((20, 20)), radius=5)
    apart = [np.hypot(a.row - b.row, a.column - b.column) for a in everywhere for b in everywhere if a != b]
    assert min(apart) > 5


@pytest.mark.parametrize(
    ("found", "lesions", "message"),
    [
        ([[]], [], "detections for 1 slides and lesions for 0"),
        ([[]], [np.zeros((3, 3), int)], "none of the slides has a lesion"),
        ([[D(3, 0, 0.5)]], [np.ones((3, 3), int)], "row 3, column 0 lies outside"),
    ],
)
def test_wrong_input(found: list, lesions: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        froc(found, lesions)
