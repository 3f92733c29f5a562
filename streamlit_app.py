"""Starts the site: `streamlit run streamlit_app.py`.

The pages are listed in cabinet/rooms.py; here they are joined by the web addresses that some rooms serve beside their
page. Nothing imported here imports torch: a room does, when its page is first asked for a prediction.
"""

from pathlib import Path

import streamlit as st

from apps.pathology import tiles

app = st.App(Path(__file__).parent / "cabinet" / "door.py", routes=tiles.routes)
