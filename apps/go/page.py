"""The Go page: a game against the net and its search, what both think, and reviews of whole games."""

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import streamlit as st

from apps.go import drawing, reviewed, thinking
from apps.go.game import BLACK, Game
from apps.go.player import Analysis
from apps.go.table import NAMES, SIDES, SIZES, Table, handicaps, usual_komi
from core import ui

if TYPE_CHECKING:
    from core.card import Card

HERE = Path(__file__).parent
SGF_MB = 1
PLAY, REVIEW = "Play", "Review"


@st.cache_resource(max_entries=1, show_spinner=False)
def known() -> dict[str, thinking.Model]:
    """The model, once it is loaded: the same for all visitors."""
    return {}


@st.cache_data(max_entries=8)
def elo(visits: int) -> str:
    """What a number of visits is called."""
    return drawing.strength(visits, HERE / "results.json")


def goban(key: str, data: dict, on_play) -> None:
    """Shows a board."""
    ui.component("board", HERE / "board")(key=key, data=data, on_play_change=on_play)


# Playing --------------------------------------------------------------------------------------------------------------


def seated() -> Table:
    """The visitor's game: begun already, or as the address says."""
    if "go_table" not in st.session_state:
        st.session_state.go_table = Table.at(st.query_params.to_dict())
    return st.session_state.go_table


def remember(table: Table) -> None:
    """Writes the game into the page's address."""
    for name in ("size", "visits", "komi", "colour", "moves", "handicap", "resigned"):
        value = table.address().get(name, "")
        if st.query_params.get(name, "") != value:
            if value:
                st.query_params[name] = value
            else:
                st.query_params.pop(name, None)


def clicked() -> None:
    """Plays where the visitor clicked."""
    if chosen := st.session_state["go_board"].play:
        st.session_state.go_table.click(int(chosen["point"]), int(chosen["serial"]))


def begin() -> None:
    """Starts the game that the visitor chose."""
    old, say = st.session_state.go_table, st.session_state
    old.leave()
    size, handicap = say.go_size, say.get("go_handicap", 0)
    game = Game("go", size, say.get("go_komi", usual_komi(handicap)), handicap=handicap)
    say.go_table = Table(game, SIDES[say.go_colour], old.visits, serial=old.serial + 1)


def set_strength() -> None:
    """Has the player think with so many visits from now on."""
    st.session_state.go_table.visits = st.session_state.go_strength


def set_komi() -> None:
    """Sets the komi that goes with the handicap."""
    st.session_state.go_komi = usual_komi(st.session_state.go_handicap)


def play_tab() -> None:
    table = seated()
    table.go_on()
    remember(table)
    left, right = st.columns([3, 2], gap="large")
    with right:
        st.subheader(table.status, anchor=False)
        # Each in a place of its own, so that what follows keeps its place, too, whether it is there or not.
        notice, queue, numbers = st.container(), st.container(), st.container()
        if table.notice:
            notice.warning(ui.plain(table.notice))
        if table.thought:
            with numbers:
                facts(table.game, table.thought.analysis)
        st.select_slider("Strength, in visits of the search", thinking.STRENGTHS, table.visits, key="go_strength",
                         format_func=elo, on_change=set_strength, help="So many positions are looked at for a reply. "
                         "An Elo is shown where it was measured against other programs.")
        shows = st.pills("Show on the board", drawing.SHOWS, selection_mode="multi", key="go_shows",
                         bind="query-params", help="Policy: what the net wants at first sight. Search: chance to win "
                         "in percent, and visits below. Ownership: whose each point will be. Line: what both sides "
                         "will play, as the search sees it.")
    with left:
        thought = table.thought
        over = table.game.over and not table.resigned
        wanted = {"Ownership"} if over else set(shows)
        goban("go_board", drawing.board(
            table.game, thought.analysis if thought and not table.resigned else None,
            shows=wanted, serial=table.serial, can_play=table.mine,
            pick=over and thought is not None, busy=table.ticket is not None and not table.mine, dead=table.dead,
            said=table.spoken), clicked)
        if over and thought:
            st.caption("Crossed stones are taken for dead. Click a stone to change that.")
        acts(table)
    with right:
        thoughts(table)
        with st.container():
            graph(table.game, table.thoughts)
        name = known()["model"].card["name"]
        ui.downloads([ui.Download("Save as SGF", "game.sgf", "application/x-go-sgf", lambda: table.record(name))],
                     key="go_play")
        foot(table.thought)
    with queue:
        wait(table)  # last, for a page that begins anew halfway forgets what its other half was set to


def acts(table: Table) -> None:
    """Shows the buttons under the board."""
    with st.container(horizontal=True, gap="small"):
        st.button("Pass", on_click=table.play, args=["pass"], disabled=not table.mine, key="go_pass")
        st.button("Undo", on_click=table.undo, disabled=not (table.game.moves or table.resigned), key="go_undo")
        st.button("Resign", on_click=table.resign, disabled=table.finished, key="go_resign")
        with st.popover("New game"):
            new_game()


def new_game() -> None:
    """Shows what can be chosen for a new game."""
    size = st.segmented_control("Board", SIZES, default=9, required=True, key="go_size", persist_state="session")
    st.segmented_control("You play", list(SIDES), default="black", required=True, key="go_colour",
                         format_func=str.capitalize, persist_state="session")
    allowed = handicaps(size)
    if len(allowed) > 1:
        handicap = st.selectbox("Handicap", allowed, key="go_handicap", on_change=set_komi,
                                format_func=lambda n: f"{n} stones" if n else "None")
    else:
        handicap = 0
    st.number_input("Komi, points for White", -50.0, 50.0, usual_komi(handicap), 0.5, key="go_komi", format="%.1f")
    st.button("Start", type="primary", on_click=begin, key="go_start", width="stretch")


def wait(table: Table) -> None:
    """Looks again and again whether something has been thought, and shows the page anew when it has."""
    ticket = table.ticket
    if ticket is None:
        return

    @st.fragment(run_every=0.25)
    def poll() -> None:
        if thinking.ended(ticket, 0.2) or table.ticket is not ticket:
            st.rerun()
        if ticket.ahead:
            st.caption(f"{ticket.ahead} ahead in the queue")

    poll()


def facts(game: Game, analysis: Analysis) -> None:
    """Shows the chance and the lead."""
    with st.container(horizontal=True, gap="medium"):
        rate = drawing.black_rate(game, len(game.moves), analysis)
        st.metric("Black wins", drawing.percent(rate), width="content")
        st.metric("Expected score", drawing.lead(game, analysis), width="content",
                  help="B: Black leads, W: White leads; komi is counted")


def thoughts(table: Table) -> None:
    """Shows what the net wanted at first sight and what the search made of it."""
    with st.expander("What it thinks", key="go_thinks"):
        which = st.segmented_control("Position", ["Now", "Before the last move"], default="Now", required=True,
                                     key="go_which", label_visibility="collapsed")
        ply = len(table.game.moves) - (which != "Now")
        if ply not in table.thoughts or (ply == len(table.game.moves) and table.finished):
            st.caption("Nothing was thought about this position.")
            return
        explained(table.game.at(ply), table.thoughts[ply])


def explained(game: Game, thought: thinking.Thought) -> None:
    """Shows prior, visits and value of the top moves, and the principal line."""
    st.markdown(drawing.verdict(game, thought))
    kinds = st.column_config
    bars = {name: kinds.ProgressColumn(width=100, help=what, format="%.0f %%", min_value=0, max_value=100)
            for name, what in (("Net", "The net's first thought"), ("Search", "Share of the visits"))}
    others = {"Move": kinds.TextColumn(width=56), "Then": kinds.TextColumn(help="How the search sees it go on"),
              "Wins": kinds.NumberColumn(width=60, help="Of who plays it, where the search looked", format="%.0f %%")}
    st.dataframe(drawing.candidates(game, thought.analysis), hide_index=True, column_config=bars | others,
                 alt="The moves that were considered")
    st.caption(f"{NAMES[game.to_move]} to move; expected: {' '.join(thought.analysis.pv)}")


def graph(game: Game, thought_of, at: int | None = None) -> None:
    """Shows Black's chances over the game."""
    rows = drawing.curve(game, thought_of)
    if len(rows) < 2:
        return
    st.vega_lite_chart(rows, drawing.graph(at), width="stretch", height=170,
                       alt="Black's chance to win after each move")


def foot(thought: thinking.Thought | None) -> None:
    """Shows which model, how fast and where."""
    model = known()["model"]
    ui.footer(model=f"{model.card['name']} {model.sha256[:8]}", sure=f"{thought.visits} visits" if thought else "",
              device=f"{model.device} in {model.precision}", milliseconds=thought.milliseconds if thought else None)


# Reviewing ------------------------------------------------------------------------------------------------------------


def uploaded() -> None:
    """Reads the visitor's SGF file."""
    say = st.session_state
    file = say[f"go_file_{say.get('go_files', 0)}"]
    if file is None:
        return
    taken, refused = ui.within([file], megabytes=SGF_MB, count=1)
    try:
        if refused:
            raise ValueError(refused[0])
        game = Game.from_sgf(taken[0].getvalue())
        if game.name != "go":
            raise ValueError(f"the file holds a game of {game.name}; games of Go are reviewed here")
    except ValueError as error:
        say.go_trouble = str(error)
        return
    take(game)
    say.go_files = say.get("go_files", 0) + 1


def take(game: Game) -> None:
    """Makes a game the one under review."""
    say = st.session_state
    thinking.drop(say.get("go_work"))
    say.update(go_reviewed=game, go_work=None, go_found=None, go_at=len(game.moves))


def review_tab() -> None:
    say = st.session_state
    table = seated()
    left, right = st.columns([3, 2], gap="large")
    with right:
        st.file_uploader("A game of Go (SGF)", type=["sgf"], key=f"go_file_{say.get('go_files', 0)}",
                         on_change=uploaded, max_upload_size=SGF_MB)
        if table.game.moves:
            st.button("Take the game I play here", on_click=take, args=[table.game.copy()], key="go_take")
        if trouble := say.pop("go_trouble", None):
            st.error(ui.plain(trouble))
    game = say.get("go_reviewed")
    if game is None:
        with left:
            goban("go_shown", drawing.board(table.game.at(0)), lambda: None)
        right.info("Choose a game: every position will be looked at, and the moves that cost most are listed.")
        return
    with right:
        work(game)
        found = say.get("go_found")
        listed = picks(game, found) if found else None
    shown = left.container()
    with left:
        ply = walk(game)
        position = game.at(ply)
        analysis = found[ply].analysis if found and ply < len(found) else None
        marks = {}
        if listed and listed.number == ply + 1:
            marks = {listed.move: "mistake", listed.better: "better"}
        shows = st.pills("Show on the board", drawing.SHOWS, selection_mode="multi", key="go_review_shows",
                         label_visibility="collapsed", disabled=analysis is None)
    with shown:
        goban("go_shown", drawing.board(position, analysis, shows=set(shows), serial=ply, marks=marks), lambda: None)
    with right:
        if found:
            if listed and listed.number == ply + 1:
                st.markdown(listed.sentence)
            graph(game, dict(enumerate(found)), ply)
            if ply < len(found):
                explained(position, found[ply])
                foot(found[ply])


def work(game: Game) -> None:
    """Offers to review the game, or shows how far that is."""
    say = st.session_state
    ticket = say.get("go_work")
    if ticket is not None and ticket.state == "done":
        say.go_found, say.go_work = ticket.result(), None
        return
    if ticket is not None and ticket.state in ("waiting", "running"):
        ui.watch(ticket, "Reviewing", key="go_review")
        return
    if ticket is not None and ticket.state == "failed":
        st.error(ui.plain(ticket.error), title="The game could not be reviewed")
    if say.get("go_found") is None and st.button("Review this game", type="primary", width="stretch", key="go_ask"):
        try:
            say.go_work = thinking.ask_review(game)
        except ValueError as error:
            st.error(ui.plain(error))
        else:
            st.rerun()


def picks(game: Game, found: list) -> reviewed.Mistake | None:
    """Lists the mistakes; gives the one that was clicked, to whose position the board goes."""
    whose = st.segmented_control("Mistakes of", ["Both", "Black", "White"], default="Both", required=True,
                                 key="go_whose")
    colours = {"Both": (1, -1), "Black": (BLACK,), "White": (-BLACK,)}[whose]
    listed = reviewed.mistakes(game, found, colours)
    if not listed:
        st.success(f"No move cost {drawing.percent(reviewed.LEAST)} or more.")
        return None

    def go() -> None:
        if rows := st.session_state.go_mistakes.selection.rows:
            st.session_state.go_at = listed[rows[0]].number - 1

    bar = st.column_config.ProgressColumn(format="%.0f %%", min_value=0, max_value=100)
    table = st.dataframe([{"Move": m.short, "Costs": 100 * m.loss, "Better": m.better} for m in listed],
                         hide_index=True, key="go_mistakes", on_select=go, selection_mode="single-row",
                         height=min(245, 40 + 35 * len(listed)), alt="The moves that cost most",
                         column_config={"Costs": bar})
    rows = table.selection.rows
    return listed[rows[0]] if rows and rows[0] < len(listed) else None


def walk(game: Game) -> int:
    """Shows the way through a game; gives the number of moves that are on the board."""
    last = len(game.moves)

    def go(step: int) -> None:
        st.session_state.go_at = min(max(st.session_state.go_at + step, 0), last)

    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        st.button("◀", on_click=go, args=[-1], key="go_back", help="One move back")
        st.button("▶", on_click=go, args=[1], key="go_forth", help="One move on")
        if not last:
            return 0
        return st.slider("Move", 0, last, key="go_at", width="stretch", persist_state="session")


# The page -------------------------------------------------------------------------------------------------------------


def loaded() -> thinking.Model | None:
    """The model; until it is there, shows that it comes."""
    if "model" in known():
        return known()["model"]
    ticket = st.session_state.get("go_ready")
    if ticket is None:
        ticket = st.session_state.go_ready = thinking.get_ready()
    if not thinking.ended(ticket, 0.2):
        ui.watch(ticket, "Setting up the board; the first time on a machine this takes a minute", key="go_ready_watch",
                 cancel=False, every=0.5)
        return None
    if ticket.state != "done":
        del st.session_state.go_ready
        st.error(ui.plain(ticket.error or "It was interrupted."), title="The model could not be loaded")
        return None
    known()["model"] = ticket.result()
    return known()["model"]


top = ui.header("Go", "Play against a small net and its search, and see what both think: the net at first sight, the "
                "search after looking ahead.")
model = loaded()
if model is None:
    st.stop()
with top:
    ui.card(cast("Card", SimpleNamespace(**model.card)))  # its fields, without the torch that core.card imports
play, review = st.tabs([PLAY, REVIEW], key="go_view", bind="query-params")
if play.open:
    with play:
        play_tab()
if review.open:
    with review:
        review_tab()
