"""The home page: what this is, and a card for each room."""

from pathlib import Path

import streamlit as st

from cabinet.rooms import ROOMS, Room
from core import ui


def show(room: Room) -> None:
    """Shows a room's card: its miniature, its sentence, its headline figure and how to measure that again."""
    if room.miniature.is_file():
        st.image(room.miniature, width="stretch", alt=f"What {room.title} makes of a sample")
    st.subheader(room.title, anchor=False)
    st.markdown(room.sentence)
    if found := room.headline():
        st.metric(found.figure, found.value, help=f"95 % confidence interval {found.range}" if found.range else None)
        st.caption(f"{ui.plain(found.date)} · `{found.command}`" if found.command else ui.plain(found.date))
    st.space("stretch")
    st.page_link(room.page, label=f"Open {room.title} →")


with st.container(horizontal=True, vertical_alignment="center", gap="small"):
    st.image(Path(__file__).with_name("logo.svg"), width=56, alt="")
    st.title("Wunderkammer", anchor=False, width="content")
st.markdown("A cabinet of deep-learning applications that do real work: use them here, train them with one command, "
            "call them from Python.")
with st.grid("auto", min_column_width=300, gap="medium") as grid:
    for room in ROOMS:
        with grid.cell(), st.container(border=True, height="stretch"):
            show(room)
