"""The predictor: its public contract, its answers, and what it refuses."""

import dataclasses
import json
import threading

import numpy as np
import pytest

from apps import pathology
from apps.pathology import data, predict
from apps.pathology.calibration import auroc, ece
from apps.pathology.reader import open_slide
from apps.pathology.shelf import SAMPLE
from apps.pathology.slide import Grid
from core import card


@pytest.fixture(scope="module")
def predictor():
    return pathology.load()


@pytest.fixture(scope="module")
def images():
    return data.read(data.SAMPLE, "test").stack()


def test_the_three_lines_of_the_readme(predictor, images):
    result = predictor(images)
    assert result.probability.dtype == np.float32
    assert result.probability.shape == (len(images),)
    assert ((result.probability >= 0) & (result.probability <= 1)).all()
    assert result.uncertain.dtype == bool
    saliency = result.saliency()
    assert saliency.dtype == np.float32
    assert saliency.shape == images.shape[:3]
    assert saliency.min() >= 0
    assert saliency.max() <= 1


def test_one_image_a_list_and_an_array_agree(predictor, images):
    together = predictor(images[:5]).probability
    np.testing.assert_array_equal(predictor(list(images[:5])).probability, together)
    np.testing.assert_array_equal(predictor(images[2]).probability, together[2:3])


def test_company_does_not_matter(predictor, images):
    exact = pathology.load(precision="float32")
    order = np.random.default_rng(0).permutation(len(images))
    np.testing.assert_allclose(exact(images[order]).probability, exact(images).probability[order], atol=1e-5)
    np.testing.assert_allclose(exact(images[:1]).probability, exact(images).probability[:1], atol=1e-5)


def test_precisions_agree(images):
    exact, fast = (pathology.load(precision=p)(images).probability for p in ("float32", "bfloat16"))
    assert np.abs(exact - fast).mean() < 0.015  # measured 0.0075, on all test tiles 0.0048
    assert np.abs(exact - fast).max() < 0.06  # measured 0.031


def test_symmetries_make_it_invariant(images):
    exact = pathology.load(precision="float32")
    plain = exact(images[:3], symmetries=True).probability
    for g in range(8):
        turned = exact(np.ascontiguousarray(data.dihedral(images[:3], g)), symmetries=True).probability
        np.testing.assert_allclose(turned, plain, atol=1e-5)


def test_resampled_pictures_are_judged_by_their_middle(predictor, images):
    from PIL import Image

    large = np.asarray(Image.fromarray(images[0]).resize((192, 192), Image.Resampling.BICUBIC))
    tiles = predict.as_tiles(large, mpp=predict.MPP / 2)
    assert tiles.shape == (1, 96, 96, 3)
    assert np.abs(tiles[0].astype(int) - images[0]).mean() < 4
    around = np.full((296, 396, 3), 255, np.uint8)
    around[52:244, 102:294] = large
    inner = predict.as_tiles(around, mpp=predict.MPP / 2)[0]
    np.testing.assert_allclose(inner[8:-8, 8:-8].astype(int), tiles[0][8:-8, 8:-8], atol=2)


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.2])
def test_a_picture_and_a_slide_of_it_get_the_same_answer(predictor, tmp_path, mpp):
    """The middle tile of a picture that is given with its resolution, and the slide's cell around the same middle."""
    from PIL import Image

    side = round(96 * 5 * predict.MPP / mpp)  # 15 cells of 32 pixels: the middle one is in the middle
    picture = np.random.default_rng(0).integers(60, 200, (side // 8 + 1, side // 8 + 1, 3), np.uint8)
    picture = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
    Image.fromarray(picture).save(tmp_path / "slide.png")
    exact = pathology.load(precision="float32")
    result = exact.slide(tmp_path / "slide.png", mpp=mpp)
    seen = result.heatmap[7, 7]
    assert np.isfinite(seen)
    # The two lie up to a pixel's fraction apart, so single values differ by up to 4 of 255; measured 0.0003.
    assert abs(float(exact(picture, mpp=mpp).probability[0]) - float(seen)) < 0.002


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_a_cell_of_a_slide_gets_just_the_answer_of_its_tile(precision):
    """Every cell of the sample slide, to the last bit: one model, one calibration, one abstention."""
    predictor = pathology.load(precision=precision)
    path = SAMPLE / "synthetic.tif"
    result = predictor.slide(path)
    scored = np.isfinite(result.heatmap)
    with open_slide(path) as reader:
        grid = Grid(reader.size, reader.need_mpp(), result.stride)
        tiles = [grid.read(reader, slice(row, row + 1), slice(column, column + 1))[0, 0]
                 for row, column in np.argwhere(scored).tolist()]
    answer = predictor(tiles)
    assert len(answer) > 250
    np.testing.assert_array_equal(answer.probability, result.heatmap[scored])
    np.testing.assert_array_equal(answer.uncertain, result.uncertain[scored])


@pytest.mark.parametrize(("bad", "says"), [
    ([], "no image"),
    (np.zeros((0, 96, 96, 3), np.uint8), "no image"),
    (np.zeros((96, 96), np.uint8), "wanted"),
    (np.zeros((96, 96, 4), np.uint8), "wanted"),
    (np.zeros((96, 96, 3), np.float32), "float32"),
    (np.zeros((1, 1, 3), np.uint8), "mpp"),
    ([np.zeros((96, 96, 3), np.uint8), np.zeros((64, 96, 3), np.uint8)], "mpp"),
])
def test_bad_images_get_a_sentence(predictor, bad, says):
    with pytest.raises(ValueError, match=says) as caught:
        predictor(bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [None, 5, "tile.png", (i for i in range(3)), {"a": 1}, object()])
def test_what_is_no_image_is_told(predictor, bad):
    with pytest.raises(ValueError, match=r"no image|wanted"):
        predictor(bad)


def test_a_pillow_picture_is_an_image(images):
    from PIL import Image

    np.testing.assert_array_equal(predict.as_tiles(Image.fromarray(images[0])), images[:1])


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan"), 1e9, "0.5", True, [0.5]])
def test_absurd_resolutions_are_refused(predictor, images, mpp):
    with pytest.raises(ValueError, match="mpp"):
        predictor(images[:1], mpp=mpp)


def test_too_little_tissue_is_refused(predictor):
    with pytest.raises(ValueError, match="covers 48 um"):
        predictor(np.zeros((192, 192, 3), np.uint8), mpp=0.25)


def test_threads_share_it(predictor, images):
    wanted, wrong = predictor(images[:8]), []

    def visit(i):
        for _ in range(3):
            result = predictor(images[:8])
            cam = result.saliency()
            if not (np.array_equal(result.probability, wanted.probability) and cam.shape == (8, 96, 96)):
                wrong.append(i)

    visitors = [threading.Thread(target=visit, args=(i,)) for i in range(4)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert not wrong
    np.testing.assert_array_equal(wanted.saliency(), predictor(images[:8]).saliency())


def spoiled(tmp_path, change, tensors=None):
    path = predict.find("default")
    weights, sheet = card.read(path)
    file = tmp_path / "spoiled.safetensors"
    card.write(file, tensors(weights) if tensors else weights, dataclasses.replace(sheet, **change))
    return file


def test_weights_of_another_app_are_refused(tmp_path):
    with pytest.raises(ValueError, match="model of 'go', not of 'pathology'"):
        pathology.load(spoiled(tmp_path, {"app": "go"}))


def test_nan_weights_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    path = predict.find("default")
    tensors = load_file(path)
    tensors["head.1.weight"][0, 0] = float("nan")
    file = tmp_path / "nan.safetensors"
    from safetensors import safe_open

    with safe_open(path, "pt") as original:
        save_file(tensors, file, original.metadata())
    with pytest.raises(ValueError, match="NaN"):
        pathology.load(file)


def test_an_uncalibrated_model_says_how_to_calibrate(tmp_path):
    with pytest.raises(ValueError, match="never calibrated"):
        pathology.load(spoiled(tmp_path, {"settings": {}}))


def test_a_card_that_describes_no_model(tmp_path):
    with pytest.raises(ValueError, match="describes no model known here"):
        pathology.load(spoiled(tmp_path, {"model": {"wings": 2}}))
    with pytest.raises(ValueError, match="do not fit"):
        pathology.load(spoiled(tmp_path, {"model": {"backbone": "p4m"}}))


@pytest.mark.parametrize(("change", "says"), [
    ({"backbone": 5}, "backbone is 5, wanted str"),
    ({"backbone": "nonesuch"}, "not known"),
    ({"side": 128.5}, r"side is 128\.5, wanted int"),
    ({"side": 10**6}, "at least 32 and at most 512"),
    ({"backbone": "p4m", "growth": 100_000}, "at least 1 and at most 64"),
    ({"dropout": float("nan")}, "dropout is nan"),
    ({"dropout": 7}, "at least 0 and at most 1"),
    ({"drop_path": "a"}, "drop_path is 'a'"),
    ({"pool": "zzz"}, "pool is 'zzz'"),
])
def test_a_card_whose_model_makes_no_sense_is_told_before_it_is_built(tmp_path, predictor, change, says):
    file = spoiled(tmp_path, {"model": {**predictor.card.model, **change}})
    with pytest.raises(ValueError, match=f"spoiled.*describes no model known here .*{says}"):
        pathology.load(file)


@pytest.mark.parametrize(("change", "says"), [
    ({"calibration": "x"}, "'x' stands where"),
    ({"calibration": None}, "None stands where"),
    ({"calibration": {"evil": 1}}, "'evil' is not known"),
    ({"calibration": {"kind": "magic"}}, "kind is 'magic'"),
    *(({"calibration": {"scale": scale}}, "scale is") for scale in ("a", [1, 2], float("nan"), -5, 1e308, True, 0)),
    ({"calibration": {"bias": float("inf")}}, "bias is inf"),
    ({"doubts": None}, "NoneType"),
    ({"doubts": [[0.1]]}, "unpack"),
    ({"calibration": {"bias": 1e300}}, r"bias is 1e\+300"),
    ({"doubts": "abc"}, "unpack"),
    ({"doubts": ["a", "b"]}, "no numbers"),
    ({"doubts": [["0.1"], ["0.2"]]}, "no numbers"),
    ({"reliability": [{"low": "a"}]}, "low is 'a'"),
    ({"reliability": {"low": 1}}, "'low' stands where"),
    ({"reliability": 3}, "int"),
    ({"doubts": [[], []]}, "at least one"),
    ({"doubts": [[[1]], [[1]]]}, "shape"),
    ({"doubts": [[5.0], [9.0]]}, "wanted 0 to 1"),
    ({"doubts": [[None], [0.1]]}, "no numbers"),
])
def test_a_card_whose_calibration_makes_no_sense_is_told(predictor, change, says):
    sheet = dataclasses.replace(predictor.card, settings={**predictor.card.settings, **change})
    with pytest.raises(ValueError, match=f"no sound calibration .*({says})"):
        predict.Predictor(None, sheet)  # before any work with the net


def test_a_tile_of_glass_is_declined(predictor, images):
    glass = np.full((96, 96, 3), 240, np.uint8)
    speck = glass.copy()
    speck[:9, :10] = 90  # 90 of 9,216 pixels, and 93
    speck_and_more = speck.copy()
    speck_and_more[20, :3] = 90
    assert predictor([glass, speck]).uncertain.all()
    assert predict.empty(np.stack([glass, speck, speck_and_more, images[0]])).tolist() == [True, True, False, False]


def test_a_card_without_doubts_is_told(predictor):
    settings = {key: value for key, value in predictor.card.settings.items() if key != "doubts"}
    with pytest.raises(ValueError, match=r"no sound calibration .*doubts"):
        predict.Predictor(None, dataclasses.replace(predictor.card, settings=settings))


def test_an_unknown_precision_or_risk_is_told():
    with pytest.raises(ValueError, match="precision is 'float64'; use auto"):
        pathology.load(precision="float64")
    for alpha in ("x", None, True, float("nan")):
        with pytest.raises(ValueError, match="alpha is"):
            pathology.load(alpha=alpha)
    with pytest.raises(ValueError, match="None names no weights"):
        pathology.load(None)


def test_the_risk_can_be_chosen(images):
    careful, bold = (pathology.load(alpha=a) for a in (0.01, 0.3))
    assert careful.conformal.alpha == 0.01
    assert careful.conformal.quantiles[0] >= bold.conformal.quantiles[0]
    assert careful.conformal.quantiles[1] >= bold.conformal.quantiles[1]
    with pytest.raises(ValueError, match="alpha"):
        pathology.load(alpha=0)


def test_the_shipped_model_is_small_and_explains_itself(predictor):
    path = predict.find("default")
    assert path.stat().st_size <= 16_000_000
    sheet = predictor.card
    assert sheet.app == "pathology"
    assert sheet.licence == "Apache-2.0"
    assert sheet.commit
    assert not sheet.commit.endswith("-dirty")
    assert sheet.data["sha256"]
    assert sheet.data["tiles"] == 7400
    assert "/" not in json.dumps(sheet.training["data"]["folder"])


def test_loading_is_quick_once_torch_is_there():
    """No timed test: what is slow to import is not imported."""
    import subprocess
    import sys

    slow = ("timm", "sklearn", "pandas", "streamlit", "matplotlib", "skimage")
    code = f"import sys; from apps import pathology; pathology.load(); print([m for m in {slow} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.real_data
def test_the_shipped_model_scores_what_it_claims(real_data_root, predictor):
    """All 1,200 test tiles, in float32 and as a user gets them: the claim, and above what the room promises."""
    claimed = json.loads((predict.TABLE.parent / "results.json").read_text())["test"]
    assert claimed["sha256_weights"] == predictor.sha256
    test = data.read(real_data_root / "pcam", "test")
    assert len(test) == claimed["n"] == 1200
    images = test.stack()
    for judge in (pathology.load(precision="float32"), predictor):
        probability = judge(images).probability
        area, error = auroc(probability, test.labels), ece(probability, test.labels)
        assert area >= 0.970
        assert error <= 0.030
        # Between bfloat16 and float32, and so between kinds of CPU, the one differs by 0.0005, the other by 0.005.
        assert area == pytest.approx(claimed["auroc"]["value"], abs=0.002)
        assert error == pytest.approx(claimed["ece"]["value"], abs=0.01)
