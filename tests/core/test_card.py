import errno
import json
import os
import random

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from core import card
from core.card import Card

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(5)}


def test_tensors_and_card_are_read_back(tmp_path):
    path = tmp_path / "new" / "toy.safetensors"
    written = Card("toy", {"width": 8}, {"lr": 0.1}, {"sha256": "ab"}, 40, {"val": {"auc": 0.9}}, name="Tiny Łódź")
    card.write(path, TENSORS, written)
    tensors, read = card.read(path, app="toy")
    assert read == written == card.read_card(path)
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert [file.name for file in path.parent.iterdir()] == ["toy.safetensors"]


def test_the_same_model_makes_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        card.write(tmp_path / name, dict(reversed(TENSORS.items())), Card("toy", {"b": 1, "a": 2}))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_half_precision_halves_floats_and_leaves_counts(tmp_path):
    card.write(tmp_path / "half", {**TENSORS, "third": torch.tensor(1 / 3)}, Card("toy", {}), dtype=torch.float16)
    tensors, _ = card.read(tmp_path / "half")
    assert tensors["weight"].dtype == torch.float16
    assert tensors["count"].dtype == torch.int64
    assert float(tensors["third"]) == pytest.approx(1 / 3, rel=1e-3)


def test_tied_weights_and_slices_of_larger_tensors_can_be_kept(tmp_path):
    large = torch.randn(10, 10)
    tensors = {"one": large[:2], "two": large[:2], "turned": large.T}
    card.write(tmp_path / "tied", tensors, Card("toy", {}))
    read, _ = card.read(tmp_path / "tied")
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert (tmp_path / "tied").stat().st_size < 2000


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_read(tmp_path, bad):
    with pytest.raises(ValueError, match=r"tensor 'weight' holds NaN or infinity as torch\.float32"):
        card.write(tmp_path / "bad", {"weight": torch.tensor([bad])}, Card("toy", {}))
    assert list(tmp_path.iterdir()) == []
    save_file({"weight": torch.tensor([bad])}, tmp_path / "bad", {"card": '{"format": 1, "app": "toy", "model": {}}'})
    with pytest.raises(ValueError, match="holds NaN or infinity in 'weight'"):
        card.read(tmp_path / "bad")


def test_a_weight_too_large_for_half_precision_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"holds NaN or infinity as torch\.float16"):
        card.write(tmp_path / "large", {"weight": torch.tensor([1e6])}, Card("toy", {}), dtype=torch.float16)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "has no model card inside"),
        ("no json", "its model card cannot be read"),
        ("[1]", "its model card cannot be read"),
        ("{}", "its model card cannot be read"),
        ('{"format": 2, "app": "toy", "model": {}}', "has a card of format 2, this program reads up to 1; update it"),
        ('{"format": "x", "app": "toy", "model": {}}', "has a card of format x"),
        ('{"format": 1, "app": "toy"}', "its model card is wrong or incomplete .*model"),
        ('{"format": -1, "app": "toy", "model": {}}', "has a card of format -1"),
        ('{"format": true, "app": "toy", "model": {}}', "has a card of format True"),
        ('{"format": 1, "app": {}, "model": {}}', "wrong or incomplete \\(app is {}, wanted str\\)"),
        ('{"format": 1, "app": "toy", "model": null}', "model is None"),
        ('{"format": 1, "app": "toy", "model": {}, "scores": 5}', "scores is 5"),
        ('{"format": 1, "app": "toy", "model": {}, "step": "x"}', "step is 'x', wanted int"),
        ('{"format": 1, "app": "toy", "model": {}, "step": true}', "step is True, wanted int"),
        ('{"format": 1, "app": "toy", "model": ' + "[" * 100_000 + "]" * 100_000 + "}", "cannot be read"),
        ('{"format": 1, "app": "toy", "model": {"x": ' + "[" * 5000 + "]" * 5000 + "}}", "cannot be read"),
    ],
)
def test_a_card_that_is_not_ours_is_refused_in_one_sentence(tmp_path, text, sentence):
    save_file(TENSORS, tmp_path / "file", None if text is None else {"card": text})
    for read in (card.read_card, card.read):
        with pytest.raises(ValueError, match=sentence):
            read(tmp_path / "file")


def test_a_field_that_this_version_does_not_know_is_passed_over(tmp_path):
    save_file(TENSORS, tmp_path / "file", {"card": '{"format": 1, "app": "toy", "model": {}, "mood": "good"}'})
    assert card.read_card(tmp_path / "file") == Card("toy", {})


def test_a_model_of_another_app_is_refused(tmp_path):
    card.write(tmp_path / "file", TENSORS, Card("go", {}))
    with pytest.raises(ValueError, match="is a model of 'go', not of 'toy'; pass weights of 'toy'"):
        card.read(tmp_path / "file", app="toy")


def test_a_damaged_file_is_refused_in_one_sentence_or_reads_as_a_model(tmp_path):
    path = tmp_path / "file"
    card.write(path, TENSORS, Card("toy", {"width": 3}))
    whole, chance = path.read_bytes(), random.Random(0)
    sentences = []
    for size in [*range(0, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"is not a readable \.safetensors file"):
            card.read(path)
    for _ in range(300):
        wrong = bytearray(whole)
        for _ in range(chance.choice([1, 1, 5])):
            wrong[chance.randrange(len(wrong))] = chance.randrange(256)
        path.write_bytes(bytes(wrong))
        try:
            card.read(path)
        except ValueError as error:
            sentences.append(str(error))
    assert len(sentences) > 50
    assert all(str(path) in sentence for sentence in sentences)
    with pytest.raises(ValueError, match=r"is not a file; pass a \.safetensors file"):
        card.read(tmp_path / "absent")


def test_a_disk_that_is_full_leaves_the_old_model(tmp_path, monkeypatch):
    path = tmp_path / "file"
    card.write(path, TENSORS, Card("toy", {}))
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="cannot be written: No space left on device"):
        card.write(path, {"weight": torch.zeros(2)}, Card("toy", {}))
    assert path.read_bytes() == before


def test_a_net_is_rebuilt_in_float32_and_eval_mode_or_the_misfit_is_told(tmp_path):
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    card.write(tmp_path / "net", net.state_dict(), Card("toy", {}), dtype=torch.float16)
    tensors, _ = card.read(tmp_path / "net")
    rebuilt = card.rebuild(tmp_path / "net", nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), tensors)
    assert not rebuilt.training
    torch.testing.assert_close(rebuilt[0].weight, net[0].weight, rtol=1e-3, atol=1e-4)
    assert rebuilt[0].weight.dtype == torch.float32
    with pytest.raises(ValueError, match="the weights do not fit the model its card describes") as caught:
        card.rebuild(tmp_path / "net", nn.Linear(3, 2), tensors)
    assert "\n" not in str(caught.value)


def test_signing_adds_day_and_versions():
    signed = card.signed(Card("toy", {}))
    assert signed.versions["torch"] == torch.__version__.split("+")[0] or torch.__version__ == signed.versions["torch"]
    assert len(signed.date) == len("2026-11-24")
    assert json.dumps(signed.versions)


def test_what_people_read_of_a_card_is_short():
    facts = {"lr": 1 / 3, "steps": 1_000_000_000, "tiles": ("a", "b"), "doubts": [0.1] * 21, "rows": [{"n": 1}] * 5}
    assert card.brief(facts) == {"lr": 0.333333, "steps": 1_000_000_000, "tiles": ["a", "b"], "doubts": "21 values",
                                 "rows": "5 values"}
