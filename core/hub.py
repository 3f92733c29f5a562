"""The Hugging Face Hub: one model file down, verified; one model file up, with a README made from its card."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from core.fetch import Checks, cache_folder

if TYPE_CHECKING:
    from core.card import Card

LICENCES = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "gpl-3.0")


class Unreachable(ConnectionError):
    """The hub cannot be reached; `where` is the address of the file, `by_hand` a path where it would be found."""

    def __init__(self, reason: str, where: str, by_hand: Path) -> None:
        super().__init__(reason)
        self.where, self.by_hand = where, by_hand


def download(address: str, app: str) -> Path:
    """Gets `hf://owner/repo[@revision][/file]` (`<app>.safetensors` by default) and returns the file in the cache.

    Raises:
        ValueError: if the address is wrong, or there is no such repository, revision or file.
        Unreachable: if the hub cannot be reached and the file is not in the cache.
    """
    repo, revision, name = parse(address, app)
    from huggingface_hub import errors, hf_hub_download

    cache = cache_folder("weights", "hub")
    by_hand = cache_folder("weights", "by-hand", *repo.split("/"), revision or "main", *name.split("/"))
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    where = f"{endpoint}/{repo}/resolve/{revision or 'main'}/{name}"
    offline = _offline(endpoint)
    try:
        for again in (False, True):
            path = Path(
                hf_hub_download(
                    repo, name, revision=revision, cache_dir=cache, endpoint=endpoint, force_download=again,
                    local_files_only=bool(offline), library_name="wunderkammer",
                )
            )  # fmt: skip
            # the hub names a large file's blob by its sha256, so that the copy in the cache can be verified each time
            blob = path.resolve().name
            if not re.fullmatch(r"[0-9a-f]{64}", blob) or Checks(sha256=blob).passes(path):
                return path
        raise ValueError(f"{address} does not have the sha256 that the hub says ({blob}); try again later")
    except errors.GatedRepoError as error:
        raise ValueError(f"{address} asks for an agreement first: log in on {where.split('/resolve/')[0]}") from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(f"{address}: no repository {repo!r} is there, or it is private and HF_TOKEN unset") from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{address}: {repo} has no revision {revision!r}") from error
    except errors.RemoteEntryNotFoundError as error:
        raise ValueError(f"{address}: {repo} has no file {name!r}") from error
    except errors.HFValidationError as error:
        raise ValueError(f"{address} is not hf://owner/repo/file ({error})") from error
    except _network_errors() as error:
        if by_hand.is_file():
            return by_hand
        raise Unreachable(offline or str(error), where, by_hand) from error


def _offline(endpoint: str) -> str:
    """Says why the hub cannot be reached, or nothing; its own client would retry for most of a minute."""
    try:
        httpx.head(endpoint, timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return str(error) or type(error).__name__
    return ""


def _network_errors() -> tuple[type[Exception], ...]:
    """Gives what the hub's client raises when the connection fails; newer versions of it use httpx2."""
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, LocalEntryNotFoundError

    clients = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    known = (HfHubHTTPError, FileMetadataError, LocalEntryNotFoundError, ConnectionError)
    return (*known, *(client.TransportError for client in clients))


def parse(address: str, app: str) -> tuple[str, str | None, str]:
    """Splits `hf://owner/repo[@revision][/file][@revision]` into repo, revision and file."""
    match = re.fullmatch(r"hf://([^/@]+/[^/@]+)(?:@([^/@]+))?(?:/([^@]*?))?(?:@([^@]+))?", address)
    if not match or (match[2] and match[4]) or ".." in (match[3] or "").split("/") or (match[4] or "").startswith("."):
        raise ValueError(f"{address!r} is not hf://owner/repo/file or hf://owner/repo/file@revision")
    name = match[3] or f"{app}.safetensors"
    if not name.endswith(".safetensors"):
        raise ValueError(f"{address!r} does not name a .safetensors file, the only kind that is read")
    return match[1], match[2] or match[4], name


def push(file: Path, repo: str, *, token: str | None = None, private: bool = False) -> str:
    """Uploads a model and a README made from its card to `owner/repo`; returns the address of the commit.

    Args:
        token: a Hugging Face token that may write; `HF_TOKEN` or the stored login by default.

    Raises:
        ValueError: if the file is no model of this project, or the hub refuses.
        ConnectionError: if the hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, errors

    from core.card import read_card

    card = read_card(Path(file))
    name = f"{card.app}.safetensors"
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token, library_name="wunderkammer")
    operations = [
        CommitOperationAdd(name, str(file)),
        CommitOperationAdd("README.md", model_card(card, repo).encode()),
    ]
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.create_commit(repo, operations, commit_message=f"{card.app}: step {card.step}, {card.date}")
        return str(done.commit_url)
    except errors.HFValidationError as error:
        raise ValueError(f"{repo!r} is not owner/repo ({error})") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise ValueError(
                f"the hub refuses to write {repo} ({status}); set HF_TOKEN to a token with write access"
            ) from error
        raise ValueError(f"the hub refuses to write {repo} ({' '.join(str(error).split())[:200]})") from error
    except _network_errors() as error:
        raise ConnectionError(f"the hub cannot be reached ({error}); set HF_ENDPOINT or HTTPS_PROXY") from error


def model_card(card: Card, repo: str) -> str:
    """Writes the README of a model's repository: Hugging Face metadata, how to load it, scores, configuration."""
    from huggingface_hub import EvalResult, ModelCardData

    name = card.name or card.app
    data = str(card.data.get("name", card.app))
    scores = list(_numbers(card.scores))
    licence = card.licence.lower()
    known = licence in LICENCES
    meta = ModelCardData(
        license=licence if known else "other",
        license_name=None if known else licence or "unknown",
        library_name="wunderkammer",
        tags=["wunderkammer", card.app],
        metrics=[key for key, _ in scores] or None,
        model_name=name if scores else None,
        eval_results=[
            EvalResult(
                task_type="other", dataset_type=re.sub(r"[^a-z0-9]+", "-", data.lower()).strip("-"), dataset_name=data,
                metric_type=key, metric_value=value,
            )
            for key, value in scores
        ] or None,
    )  # fmt: skip
    return f"---\n{meta.to_yaml()}\n---\n\n# {name}\n\n{describe(card, repo)}"


def describe(card: Card, repo: str | None = None) -> str:
    """Writes what people read of a card, as Markdown."""
    from core.card import brief

    lines = [f"A model of Wunderkammer's `{card.app}` room: step {card.step}, {card.date}, licence {card.licence}."]
    if repo:
        load = f'from apps import {card.app}\n\npredictor = {card.app}.load("hf://{repo}/{card.app}.safetensors")'
        lines += ["", "```python", load, "```"]
    if scores := list(_numbers(card.scores)):
        lines += ["", "| score | value |", "|---|---|", *(f"| {key} | {value:g} |" for key, value in scores)]
    for title in ("data", "model", "training", "scores", "settings", "versions"):
        if values := getattr(card, title):
            lines += ["", f"## {title.capitalize()}", "", "```json", json.dumps(brief(values), indent=2), "```"]
    if card.commit:
        lines += ["", f"Trained by commit `{card.commit}`."]
    return "\n".join(lines) + "\n"


def _numbers(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Gives every number of nested scores with its dotted name."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", value
