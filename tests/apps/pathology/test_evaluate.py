"""The commands that make the numbers, on the sample tiles and composite slides made of them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from apps import pathology
from apps.pathology import calibration, data, evaluate, predict, report
from apps.pathology.composite import score_composites
from apps.pathology.report import table
from core import card
from core.results import between_marks

ROOT = Path(__file__).parents[3]


def command(*words):
    return subprocess.run([sys.executable, "-m", "apps.pathology.evaluate", *map(str, words)], cwd=ROOT, text=True,
                          capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=400, check=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation") / "results.json"
    done = command("test", "--folder", "sample", "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def test_the_scores_are_those_of_the_predictor(results):
    section = json.loads(results.read_text())["test"]
    test = data.read(data.SAMPLE, "test")
    predictor = pathology.load()
    probability = predictor(test.stack()).probability
    assert section["n"] == len(test) == 32
    assert section["auroc"]["value"] == pytest.approx(calibration.auroc(probability, test.labels))
    assert section["ece"]["value"] == pytest.approx(calibration.ece(probability, test.labels))
    assert section["sha256_weights"] == predictor.sha256
    assert section["auroc"]["low"] <= section["auroc"]["value"] <= section["auroc"]["high"]
    assert section["command"].startswith("python -m apps.pathology.evaluate test")
    assert set(section["within_scanner_group"]) == {"0", "1"}


def test_the_figures_are_drawn(results):
    from PIL import Image

    for name in ("reliability", "roc", "selective_risk", "saliency"):
        with Image.open(results.parent / "figures" / f"{name}.png") as figure:
            assert figure.width > 200
            assert len(figure.convert("RGB").getcolors(1 << 24)) > 10


def test_the_table_says_what_the_file_says(results):
    section = json.loads(results.read_text())
    text = table(section)
    assert f"**{section['test']['auroc']['value']:.4f}**" in text
    assert f"colour statistics alone {section['test']['colour']['auroc']['value']:.4f}" in text
    assert section["test"]["command"] in text
    assert f"answered and wrong {section['test']['abstention']['answered_and_wrong']:.1%}" in text
    within = section["test"]["within_scanner_group"]["1"]
    (row,) = (line for line in text.splitlines() if "within scanner group 1" in line)
    assert f"colour {within['colour']['auroc']['value']:.4f} (" in row
    assert f"{within['auroc']['value']:.4f}" in row


def test_the_table_names_the_file_of_each_number(results, tmp_path, monkeypatch):
    """Scores lie in results.json, speeds beside the benchmarks; what was never measured has no row."""
    section = json.loads(results.read_text())
    slide = json.loads((report.BENCHMARKS / "slide_throughput.json").read_text())
    text = table(section)
    assert f"Made by `{section['test']['command']}`; these numbers are in [results.json](RESULTS)." in text
    assert f"`{slide['command']}`; these numbers are in [benchmarks/results](BENCHMARKS)" in text
    assert f"{slide['tiles_per_second']['scoring']['median']:.0f} against " in text
    assert f"peak memory {slide['peak_rss_mib']} MiB" in text
    for group in section["test"]["within_scanner_group"].values():
        del group["colour"]  # as older files have it
    monkeypatch.setattr(report, "BENCHMARKS", tmp_path)
    text = table(section)
    assert "within scanner group 1" in text
    assert "OpenSlide" not in text
    assert "BENCHMARKS" not in text


def test_calibration_is_written_into_the_card_and_changes_nothing_else(tmp_path):
    source = predict.find("default")
    file = tmp_path / "copy.safetensors"
    file.write_bytes(source.read_bytes())
    done = command("calibrate", file, "--folder", "sample", "--split", "train")
    assert done.returncode == 0, done.stderr
    (before, old), (after, new) = card.read(source), card.read(file)
    assert all(np.array_equal(after[key], value) for key, value in before.items())
    assert new.settings["calibrated_on"] == "pcam_train"
    assert new.settings["calibration"]["n"] == 64
    assert (new.model, new.data, new.commit) == (old.model, old.data, old.commit)


def test_what_is_published_is_not_calibrated(tmp_path, monkeypatch):
    shipped = predict.find("default")
    before = shipped.read_bytes()
    monkeypatch.setenv("WUNDERKAMMER_CACHE", str(tmp_path))
    fetched = tmp_path / "weights" / "hub" / "m.safetensors"
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(before)
    for name in ("default", str(shipped), str(fetched)):
        with pytest.raises(ValueError, match="is published and must stay"):
            evaluate.Calibrate(name, folder="sample").run()
    assert shipped.read_bytes() == fetched.read_bytes() == before


@pytest.mark.parametrize(("content", "says"), [
    ("{", "no readable file"), ("[]", "other JSON"), ('{"slides": [{}]}', "other JSON"), ("[" * 100_000, "no readable"),
    (None, "no readable file"),
])
def test_a_file_that_cannot_take_the_results_is_refused_before_the_work(tmp_path, monkeypatch, content, says):
    def work(*args, **options):
        raise AssertionError("work was done")

    monkeypatch.setattr(predict, "load", work)
    monkeypatch.setattr(data, "read", work)
    out = tmp_path / "r.json"
    if content is None:
        out.mkdir()
    else:
        out.write_text(content)
    for command in (evaluate.Test(out=out), evaluate.Models(("default",), out=out),
                    evaluate.Cross(("a", "b"), out=out), evaluate.Slides(tmp_path, out=out)):
        with pytest.raises(ValueError, match=says) as caught:
            command.run()
        assert str(out) in str(caught.value)
    if content is not None:
        assert out.read_text() == content


def test_scores_of_drawings_never_replace_the_results(tmp_path, monkeypatch):
    before = evaluate.RESULTS.read_bytes()
    copied = str(shutil.copytree(data.SAMPLE, tmp_path / "pcam"))
    monkeypatch.chdir(ROOT)
    for run in (evaluate.Test(folder="sample"), evaluate.Test(folder="data/pcam/sample"), evaluate.Test(folder=copied),
                evaluate.Models(("default",), folder="sample"), evaluate.Cross(("default", "default"), folder=copied)):
        with pytest.raises(ValueError, match=r"only this project's sample is here.*--folder sample --out FILE"):
            run.run()
    assert evaluate.RESULTS.read_bytes() == before


def test_a_table_of_other_results_or_none_is_told(tmp_path):
    (tmp_path / "r.json").write_text('{"test": {"n": 3}}')
    with pytest.raises(ValueError, match="other results"):
        evaluate.Table(tmp_path / "r.json").run()
    with pytest.raises(ValueError, match="is not there"):
        evaluate.Table(tmp_path / "none.json").run()


@pytest.mark.parametrize(("content", "says"), [
    ("{}", "no list of composite slides .*split"), ("[]", "no list of"), ("{", "no list of"),
    ('{"slides": [{}], "split": "x", "seed": 0}', "no list of .*slide"),
    ('{"slides": [], "split": "x", "seed": 0}', "lists no slide"),
    ('{"slides": [{"slide": "a", "truth": "b"}], "split": "x", "seed": 0}', "b is not a readable npz"),
])
def test_a_damaged_list_of_composites_is_named(tmp_path, content, says):
    (tmp_path / "composites.json").write_text(content)
    with pytest.raises(ValueError, match=says) as caught:
        score_composites(None, tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_composite_slides_agree_with_their_tiles(tmp_path):
    """What the map of a slide says of a tile is what the predictor says of the tile alone: one code path."""
    from data.slides.compose import compose

    folder = tmp_path / "slides"
    compose(data.SAMPLE, "test", folder, 2, seed=1)
    done = command("slides", folder, "--out", tmp_path / "results.json")
    assert done.returncode == 0, done.stderr
    section = json.loads((tmp_path / "results.json").read_text())["slides"]
    assert section["slides"] == 2
    assert section["cells"] + 0 == sum(
        int((np.load(path)["label"] >= 0).sum()) for path in folder.glob("slide_*.npz"))
    assert 0 <= section["froc"] <= 1
    predictor, tiles = pathology.load(precision="float32"), data.read(data.SAMPLE, "test")
    for path in sorted(folder.glob("slide_*.tif")):
        result = predictor.slide(path)
        placed = np.load(path.with_suffix(".npz"))["tile"]
        centre = result.heatmap[1::3, 1::3]
        seen = (placed >= 0) & np.isfinite(centre)
        assert seen.sum() >= 0.8 * (placed >= 0).sum()
        alone = predictor(np.stack([tiles.images[i] for i in placed[seen]])).probability
        np.testing.assert_allclose(centre[seen], alone, atol=1e-5)


@pytest.mark.parametrize(("words", "says"), [
    (("test", "--folder", "/nowhere"), "not a folder"),
    (("test", "--folder", "sample", "--weights", "nothing"), "no weights called"),
    (("slides", "/nowhere"), "composites.json"),
    (("cross", "default", "default", "--folder", "sample"), "trained on all scanners"),
])
def test_bad_input_gets_one_sentence(tmp_path, words, says):
    done = command(*words, *(() if words[0] == "calibrate" else ("--out", tmp_path / "r.json")))
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r.json").exists()


def test_marks_are_replaced_and_nothing_else(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("a\n<!-- results -->\nold\n<!-- /results -->\nb\n")
    between_marks(page, "new")
    assert page.read_text() == "a\n<!-- results -->\nnew\n<!-- /results -->\nb\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="results"):
        between_marks(page, "new")
    assert page.read_text() == "no marks"
