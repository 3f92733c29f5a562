"""What the net is punished for: policy, soft policy, result, score and ownership, each with its weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Optimise:
    """AdamW, its schedule, and what counts how much."""

    lr: float = 2e-3
    """Learning rate at its highest; it warms up linearly, then falls."""
    weight_decay: float = 0.03
    """Decoupled weight decay of matrices and filters."""
    warmup: int = 200
    """Steps of linear warm-up."""
    played: float = 0.3
    """Share of the policy's target that is the move of the game; the rest is the teacher's opinion."""
    soft: float = 0.1
    """Weight of the soft policy: the same target flattened by a temperature of 4 (KataGo's auxiliary target)."""
    value: float = 0.6
    """Weight of the result."""
    score: float = 0.1
    """Weight of the score."""
    ownership: float = 0.3
    """Weight of the ownership."""


def loss_fn(o: Optimise):
    """Makes the loss of a batch (see `data.Sample`): policy, soft policy, result, score, ownership."""

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        out = model(batch["planes"], batch["numbers"])
        legal, move = batch["legal"], batch["move"]
        logits = out.policy.float().masked_fill(~legal[:, None], -1e4)  # (B, 2, A)
        hard, soft = logits.log_softmax(-1).unbind(1)
        teacher = batch["policy"]
        known = (move < teacher.shape[1]).float()[:, None] * o.played
        target = teacher * (1 - known) + F.one_hot(move, teacher.shape[1] + 1)[:, :-1] * known
        flat = teacher.clamp_min(1e-8).pow(0.25) * legal
        flat = flat / flat.sum(1, keepdim=True)
        drawn, scored = batch["drawn"], batch["scored"]
        won = batch["winrate"] - drawn / 2
        result = out.value.float().log_softmax(1)  # (B, 3): won, lost, drawn
        lead = F.huber_loss(out.score.float(), batch["lead"].clamp(-81, 81) / 10, delta=1.0, reduction="none")
        owner = (out.ownership.float().tanh() - batch["ownership"]).square().mean((1, 2))
        parts = {
            "policy": -(target * hard).sum(1).mean(),
            "soft": -(flat * soft).sum(1).mean(),
            "value": -(won * result[:, 0] + (1 - won - drawn) * result[:, 1] + drawn * result[:, 2]).mean(),
            "score": (scored * lead).mean(),
            "ownership": (scored * owner).mean(),
        }
        total = (parts["policy"] + o.soft * parts["soft"] + o.value * parts["value"] + o.score * parts["score"]
                 + o.ownership * parts["ownership"])
        played = move < teacher.shape[1]
        parts["top1"] = ((hard.argmax(1) == move) & played).float().sum() / played.sum().clamp_min(1)
        return total, {name: value.detach() for name, value in parts.items()}

    return loss
