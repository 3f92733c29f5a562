"""What every page is made of: its head, its footer, progress, uploads, downloads, components of our own.

The only file of core that knows Streamlit. Text that did not come from this project goes through `plain` before it
reaches anything that reads Markdown.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from PIL import Image

if TYPE_CHECKING:  # a page shows itself before torch is imported
    from core.card import Card
    from core.desk import Ticket

HERE = Path(__file__).parent


def plain(text: object) -> str:
    """Returns text escaped so that Markdown and HTML show it letter by letter."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:^=&@])", r"\\\1", " ".join(str(text).split()))


# The head ------------------------------------------------------------------------------------------------------------


def header(title: str, sentence: str, note: str = "") -> Any:
    """Shows a page's title, its one sentence and a note of caution, and returns the place for its model card."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(title, anchor=False, width="content")
        if note:
            st.badge(note, color="orange")
    st.markdown(sentence)
    return st.container()


def card(model: Card) -> None:
    """Shows a model card, closed: what the model is, what it learned from, how well it does, and its settings."""
    from core.card import brief  # with torch, which has made the model's card

    with st.expander(f"Model card: {plain(model.name or model.app)}"):
        facts = {"App": model.app, "Trained on": model.data, "Optimizer steps": f"{model.step:,}",
                 "Licence": model.licence, "Date": model.date, "Commit": model.commit, "Versions": model.versions}
        rows = [f"| {name} | {_brief(value)} |" for name, value in facts.items() if value]
        st.markdown("\n".join([rows[0], "|---|---|", *rows[1:]]))
        for name, part in (("Scores", model.scores), ("Model", model.model), ("Training", model.training),
                           ("Settings", model.settings)):
            if part:
                st.caption(name)
                st.json(brief(part), expanded=name == "Scores")


def _brief(value: Any) -> str:
    """One line of a card: nested facts in a row, long digests short."""
    if isinstance(value, Mapping):
        return "; ".join(f"{plain(key)} {_brief(inner)}" for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_brief(inner) for inner in value)
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return plain(text[:12] + "…" if re.fullmatch(r"[0-9a-f]{40,}", text) else text)


# The foot ------------------------------------------------------------------------------------------------------------


def footer(*, model: str, device: str, milliseconds: float | None = None, sure: str = "") -> None:
    """Shows under a result how sure it is, which model said so, how long it took and where."""
    took = [] if milliseconds is None else [f"{milliseconds:,.0f} ms" if milliseconds >= 1 else "under 1 ms"]
    st.caption(" · ".join(plain(part) for part in [sure, f"model {model}", *took, f"on {device}"] if part))


@dataclass(frozen=True)
class Download:
    """A file that a visitor can take along; `data` may be a function, called when it is asked for."""

    label: str
    file_name: str
    mime: str
    data: bytes | str | Callable[[], bytes]


def downloads(files: Iterable[Download], key: str) -> None:
    """Shows a row of buttons that save files; none of them reruns the page."""
    with st.container(horizontal=True, gap="small"):
        for file in files:
            st.download_button(file.label, file.data, file.file_name, file.mime, key=f"{key}-{file.file_name}",
                               on_click="ignore")


# Work that takes a while ----------------------------------------------------------------------------------------------


def watch(ticket: Ticket, doing: str, *, key: str, cancel: bool = True, every: float = 1.0) -> None:
    """Shows how far a ticket is, with a button that cancels it; reruns the page when it has ended."""
    first: list[tuple[float, int]] = []  # seconds and pieces done when it was first seen at work

    @st.fragment(run_every=every)
    def show() -> None:
        if ticket.state not in ("waiting", "running"):
            st.rerun()
        ticket.look()
        done, total = ticket.progress
        if done and not first:
            first.append((ticket.seconds, done))
        st.progress(min(1.0, done / total) if total else 0.0, text=f"{doing}: {_so_far(ticket, *first)}")
        if cancel and st.button("Cancel", key=f"{key}-cancel"):
            ticket.cancel()
            st.rerun()

    show()


def _so_far(ticket: Ticket, first: tuple[float, int] = (0.0, 0)) -> str:
    """How far a ticket is, and how long it still takes at the pace since it was first seen: starting up is no pace."""
    done, total = ticket.progress
    if ticket.state == "waiting":
        return "starts next" if not ticket.ahead else f"{ticket.ahead} ahead in the queue"
    if not total or not done:
        return "starting"
    if done == first[1]:
        return f"{done:,} of {total:,}"
    left = (ticket.seconds - first[0]) * (total - done) / (done - first[1])
    time = f"{left:.0f} s" if left < 90 else f"{left / 60:.0f} min"
    return f"{done:,} of {total:,}, about {time} left"


# What comes in --------------------------------------------------------------------------------------------------------


def within(files: Sequence[Any], *, megabytes: int, count: int) -> tuple[list[Any], list[str]]:
    """Splits uploaded files into those that may be read and sentences on those that may not: too large, or too many."""
    small = [file for file in files if file.size <= megabytes << 20]
    refused = [f"{plain(file.name)} has {file.size / 2**20:.0f} MB; at most {megabytes} MB are read here."
               for file in files if file.size > megabytes << 20]
    if len(small) > count:
        refused.append(f"{len(small)} files came; the first {count} are read, for more there is the command line.")
    return small[:count], refused


# Components of our own ------------------------------------------------------------------------------------------------


@cache
def component(name: str, folder: Path) -> Any:
    """Returns a Streamlit component made of `<folder>/<name>.html`, `.css` and `.js`; call it to mount it."""
    html, css, js = (folder.joinpath(name).with_suffix(end).read_text("utf-8") for end in (".html", ".css", ".js"))
    return st.components.v2.component(f"wunderkammer.{folder.parent.name}.{name}", html=html, css=css, js=js)


@dataclass(frozen=True)
class Choice:
    """One picture of a `picker`: what it is called, what it shows, and the picture, HWC uint8 RGB."""

    name: str
    label: str
    image: np.ndarray


def picker(label: str, choices: Sequence[Choice], chosen: str, *, key: str, on_change: Callable[[], None]) -> str:
    """Shows pictures of which one is chosen, by click or arrow keys, and returns the name of the one chosen.

    `on_change` runs before the page does; the new choice is then in `st.session_state[key].choice`.
    """
    data = {"label": label, "chosen": chosen,
            "choices": [{"name": c.name, "label": c.label, "image": _data_url(c.image)} for c in choices]}
    mount = component("picker", HERE / "picker")
    return mount(key=key, data=data, default={"choice": chosen}, on_choice_change=on_change).choice or chosen


def _data_url(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
