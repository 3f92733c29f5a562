"""The script that Streamlit runs for every visitor: the rooms in their order, and the one that was chosen."""

from pathlib import Path

import streamlit as st

from cabinet.rooms import ROOMS

HERE = Path(__file__).parent

st.set_page_config(page_title="Wunderkammer", page_icon=HERE / "logo.svg", layout="wide")
st.logo(HERE / "logo.svg", size="large")
home = st.Page(HERE / "home.py", title="Home", default=True)
pages = [st.Page(room.page, title=room.title, url_path=room.name) for room in ROOMS]
st.navigation([home, *pages], position="top").run()
