"""The script that Streamlit runs for every visitor: the rooms in their order, and the one that was chosen."""

from pathlib import Path

import streamlit as st

from cabinet.rooms import ROOMS

HERE = Path(__file__).parent

st.logo(HERE / "logo.svg", size="large")
home = st.Page(HERE / "home.py", title="Home", default=True)
pages = [st.Page(room.page, title=room.title, url_path=room.name) for room in ROOMS]
page = st.navigation([home, *pages], position="top")
title = "Wunderkammer" if page is home else f"{page.title} · Wunderkammer"
st.set_page_config(page_title=title, page_icon=HERE / "logo.svg", layout="wide")
page.run()
