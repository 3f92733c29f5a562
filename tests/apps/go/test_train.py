"""The training as a user runs it, on the sample; and what a sample must be."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from apps.go import data
from apps.go.data import SAMPLE, Sample
from apps.go.model import ModelConfig, Net
from apps.go.train import Optimise, loss_fn
from core import card

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def positions():
    return data.read(SAMPLE, "train")


def test_splits_are_games_and_none_is_in_two(positions):
    games = {split: set(data.read(SAMPLE, split).game.tolist()) for split in ("train", "val", "test")}
    assert not games["train"] & games["val"] | games["train"] & games["test"] | games["val"] & games["test"]
    assert sum(map(len, games.values())) == 60


def test_a_symmetry_turns_everything_alike(positions):
    """Each symmetry of a sample is the sample with planes, policy, move and ownership turned the same way."""
    index = next(i for i in range(len(positions)) if positions.ply[i] == 40)
    plain = Sample(positions, augment=False)(index, np.random.default_rng(0))
    seen = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        element = int(np.random.default_rng(seed).integers(8))
        seen.add(element)
        turned = Sample(positions)(index, rng)
        for name in ("planes", "ownership"):
            assert np.array_equal(turned[name].numpy(), data.symmetry(plain[name].numpy(), element))
        for name in ("policy", "legal"):
            board, rest = plain[name][:-1].numpy().reshape(9, 9), plain[name][-1]
            assert np.array_equal(turned[name][:-1].numpy().reshape(9, 9), data.symmetry(board, element))
            assert turned[name][-1] == rest
        mark = np.zeros(81)
        mark[plain["move"]] = 1
        assert data.symmetry(mark.reshape(9, 9), element).ravel()[turned["move"]] == 1
    assert seen == set(range(8))


def test_what_was_played_is_legal_and_the_policy_is_one(positions):
    sample, rng = Sample(positions), np.random.default_rng(0)
    for index in rng.integers(0, len(positions), 200):
        s = sample(int(index), rng)
        assert s["legal"][s["move"]]
        assert s["policy"].sum() == pytest.approx(1, abs=1e-5)
        assert not s["policy"][~s["legal"]].any()


def test_the_loss_is_least_where_the_net_says_the_target():
    """With logits at the target's logarithm the policy's part is the target's entropy, and value and rest vanish."""
    batch = data.to_tensors(data.read(SAMPLE, "val"), range(8))
    o = Optimise(played=0.0)

    class Oracle(torch.nn.Module):
        def forward(self, planes, numbers):
            from apps.go.model import Output

            policy = batch["policy"].clamp_min(1e-12).log()
            won = batch["winrate"].clamp(1e-6, 1 - 1e-6)
            value = torch.stack([won.log(), (1 - won).log(), torch.full_like(won, -30.0)], 1)
            own = batch["ownership"].clamp(-0.999999, 0.999999).atanh()
            return Output(torch.stack([policy, policy], 1), value, batch["lead"] / 10, own)

    _, parts = loss_fn(o)(Oracle(), batch)
    p = batch["policy"].double()
    entropy = -(p * p.clamp_min(1e-12).log()).sum(1).mean()
    assert parts["policy"].item() == pytest.approx(entropy.item(), abs=1e-4)
    assert parts["score"].item() == pytest.approx(0, abs=1e-6)
    assert parts["ownership"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("game", "size", "actions"), [
    ("go", (9, 9), 82), ("go", (5, 7), 36), ("go", (19, 19), 362), ("connect4", (6, 7), 7), ("othello", (8, 8), 65),
    ("gomoku", (15, 15), 225),
])
def test_one_net_plays_every_size(game, size, actions):
    from apps.go.features import NUMBERS, PLANES

    net = Net(ModelConfig(game=game, blocks=2, channels=16, head=8)).eval()
    out = net(torch.rand(3, PLANES, *size), torch.rand(3, NUMBERS))
    assert out.policy.shape == (3, 2, actions)
    assert (out.value.shape, out.score.shape, out.ownership.shape) == ((3, 3), (3,), (3, *size))


def test_the_default_net_has_about_a_million_parameters():
    assert 0.9e6 < sum(p.numel() for p in Net(ModelConfig()).parameters()) < 1.3e6


def test_tiny_learns_leaves_a_player_and_goes_on(tmp_path):
    """As in the README; then the same command has nothing to do."""
    words = [sys.executable, "-m", "apps.go.train", "tiny", "--out", str(tmp_path / "run"), "--hardware.threads", "1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    sheet = card.read_card(tmp_path / "run" / "go.safetensors")
    assert sheet.app == "go"
    assert sheet.model["channels"] == 16
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [r["loss"] for r in records if r["event"] == "train"]
    assert losses[-1] < losses[0]
    from apps import go

    player = go.load(tmp_path / "run")
    game = go.Game("go")
    found = player.analyse(game, visits=20)
    assert found.move in game.legal()
    assert found.visits.sum() == 19
    before = (tmp_path / "run" / "log.jsonl").read_bytes()
    again = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == before


@pytest.mark.parametrize(("words", "says"), [
    (("--data.folder", "nowhere"), "nowhere is not a folder"),
    (("--model.channels", "4"), "model.channels is 4"),
    (("--fit.stepz", "3"), "--fit.steps"),
])
def test_bad_input_gets_one_sentence(tmp_path, words, says):
    command = [sys.executable, "-m", "apps.go.train", "tiny", "--out", str(tmp_path / "r"), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert says in " ".join((done.stderr + done.stdout).replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_a_damaged_label_file_is_told(tmp_path):
    with np.load(SAMPLE / data.FILE) as file:
        arrays = dict(file)
    for name, change, says in (("policy", lambda a: a[:-1], "do not fit"), ("moves", lambda a: a + 100, "do not fit"),
                               ("komi", None, "lacks komi")):
        bad = {k: v for k, v in arrays.items() if change or k != name}
        if change:
            bad[name] = change(arrays[name].astype(np.int16) if name == "moves" else arrays[name])
        np.savez(tmp_path / data.FILE, **bad)
        with pytest.raises(ValueError, match=says):
            data.read(tmp_path, "train")
    (tmp_path / data.FILE).write_bytes(b"no zip")
    with pytest.raises(ValueError, match="not a readable npz"):
        data.read(tmp_path, "train")
