"""The Go page: play against the net, see what it thinks, have a game reviewed."""

from pathlib import Path

import streamlit as st

from apps.go import drawing, reviewed, thinking
from apps.go.game import BLACK, Game
from apps.go.table import NAMES, SIDES, SIZES, Table, handicaps, usual_komi
from core import ui
from core.card import Card

HERE = Path(__file__).parent
SGF_MB = 1
STRENGTH = {1: "the net alone", 16: "16 visits", 64: "64 visits", 256: "256 visits"}


@st.cache_resource(max_entries=1)
def loading():
    return thinking.get_ready()


def mount(key: str, data: dict, on_play=lambda: None) -> None:
    ui.component("board", HERE / "board")(key=key, data=data, on_play_change=on_play)


# Play -----------------------------------------------------------------------------------------------------------------


def seat() -> Table:
    """The visitor's table: this session's, or the one that the address says."""
    if "table" not in st.session_state:
        st.session_state["table"] = Table.at(st.query_params.to_dict())
    return st.session_state["table"]


def think(table: Table) -> bool:
    """Lets the player go on; gives whether it is still thinking. Most thoughts come within a moment."""
    for _ in range(3):
        table.go_on()
        if table.ticket is None or table.waits(0.7):
            break
    return table.ticket is not None


@st.fragment(run_every=0.3)
def await_thought(table: Table) -> None:
    """Reruns the page when what is being thought has come."""
    if not table.waits(0.1):
        st.rerun()
    st.caption("The player is thinking …")


def play_tab() -> None:
    table = seat()
    left, right = st.columns([3, 2], gap="large")
    with right:
        new_game(table)
        shows = st.pills("Show on the board", drawing.SHOWS, selection_mode="multi", key="shows")
    busy = think(table)
    if st.query_params.to_dict() != {**st.query_params.to_dict(), **table.address()}:
        st.query_params.update(table.address())
    with left:
        board_of(table, shows, busy)
        (st.warning if table.notice else st.caption)(ui.plain(status(table)))
        controls(table)
        if busy:
            await_thought(table)
    with right:
        opinion(table)


def new_game(table: Table) -> None:
    """Asks how the next game is to be, and begins it."""
    with st.popover("New game", width="stretch"):
        size = st.segmented_control("Board", SIZES, default=table.game.spec.rows, required=True, key="new-size")
        side = st.segmented_control("You play", list(SIDES), default="black", required=True, key="new-side")
        visits = st.segmented_control("Strength", list(STRENGTH), default=table.visits, required=True, key="new-visits",
                                      format_func=lambda visits: STRENGTH[visits],
                                      help="Positions the player looks at before a move; more is stronger and slower.")
        handicap = st.selectbox("Handicap stones", handicaps(size), key=f"new-handicap-{size}")
        komi = st.number_input("Komi", -100.0, 100.0, usual_komi(handicap), 0.5, key=f"new-komi-{bool(handicap)}")
        if size != 9:
            st.caption("The net was trained on 9x9 boards; on others nobody has measured how well it plays.")
        if st.button("Begin", type="primary", key="begin"):
            table.leave()
            st.query_params.clear()
            st.session_state["table"] = Table.at({"size": str(size), "colour": side, "visits": str(visits),
                                                  "handicap": str(handicap), "komi": f"{round(2 * komi) / 2:g}"})
            st.rerun()


def board_of(table: Table, shows: list[str], busy: bool) -> None:
    """Shows the board; a click plays, after the end it marks stones dead or alive."""

    def clicked() -> None:
        choice = st.session_state["board"].play
        if choice:
            table.click(int(choice["point"]), int(choice["serial"]))

    thought, ended = table.thought, table.game.over and not table.resigned
    mount("board", drawing.board(
        table.game, thought.analysis if thought else None, shows=[*shows, "Ownership"] if ended else shows,
        serial=table.serial, can_play=table.mine, pick=ended, busy=busy, dead=table.dead, said=status(table)), clicked)


def status(table: Table) -> str:
    """One sentence for the eye and the screen reader: what has happened, and whose turn it is."""
    if table.notice:
        return table.notice
    if table.finished:
        return f"The game is over: {table.result or 'counting'}."
    moves = table.game.moves
    last = f"{NAMES[moves[-1].colour]} has played {moves[-1].vertex}. " if moves else ""
    turn = NAMES[table.game.to_move]
    return f"{last}{turn} to move{'' if table.side == 0 else ' (you)' if table.mine else ''}."


def controls(table: Table) -> None:
    """Shows the buttons under the board."""
    with st.container(horizontal=True, gap="small"):
        st.button("Pass", key="pass", disabled=not table.mine, on_click=table.play, args=("pass",))
        st.button("Undo", key="undo", disabled=not table.game.moves, on_click=table.undo)
        st.button("Resign", key="resign", disabled=table.finished, on_click=table.resign)
        if table.game.over and not table.resigned:
            st.button("Play on", key="resume", on_click=table.resume,
                      help="Takes the last pass back, if you do not agree on what is dead.")
        st.download_button("SGF", table.game.to_sgf(), "game.sgf", "application/x-go-sgf", key="sgf", on_click="ignore",
                           disabled=not table.game.moves)
    if table.game.over and not table.resigned:
        st.caption("Click on stones to mark them dead or alive.")


def opinion(table: Table) -> None:
    """Shows what the player thinks of the position and how the game went."""
    if table.result:
        st.subheader(table.result, anchor=False)
    thought = table.thought
    if thought is None:
        st.caption("No opinion on this position yet.")
        return
    game, analysis = table.game, thought.analysis
    black = drawing.black_rate(game, len(game.moves), analysis)
    with st.container(horizontal=True, gap="medium"):
        st.metric("Black wins", drawing.percent(black), width="content")
        st.metric("Lead", drawing.lead(game, analysis), width="content", help="Expected difference in points")
    curve_of(drawing.curve(game, table.thoughts))
    if not table.finished:
        with st.expander("What the net wants, and what the search makes of it"):
            st.markdown(drawing.verdict(game, thought))
            candidates(game, analysis)
    model = loading().result(0)
    ui.footer(model=model.card["name"], device=model.device, milliseconds=thought.milliseconds,
              sure=f"{thought.visits} visits")


def candidates(game: Game, analysis) -> None:
    """Shows the moves that were considered: the net's share, the search's, and the chance to win."""
    bar = {name: st.column_config.ProgressColumn(format="%.0f %%", min_value=0, max_value=100)
           for name in ("Net", "Search")}
    st.dataframe(drawing.candidates(game, analysis), hide_index=True, column_config={
        **bar, "Wins": st.column_config.NumberColumn(format="%.0f %%")}, alt="Moves that were considered")


def curve_of(rows: list[dict]) -> None:
    """Shows Black's chances over the game."""
    if len(rows) > 1:
        st.line_chart(rows, x="Move", y="Black", height=160, y_label="Black's chance, %")


# Review ---------------------------------------------------------------------------------------------------------------


def review_tab() -> None:
    left, right = st.columns([3, 2], gap="large")
    with right:
        game = game_to_review()
    if game is None:
        with left:
            st.info("Upload a game as SGF, or take the one you have just played: each position is looked at, and the "
                    "moves that cost most are listed.")
        return
    text = game.to_sgf()
    if st.session_state.get("reviewed") != text:
        with right:
            if not st.button("Review this game", type="primary", key="review"):
                with left:
                    mount("review-start", drawing.board(game))
                return
            try:
                st.session_state["review-ticket"] = thinking.ask_review(game)
                st.session_state["reviewed"] = text
            except ValueError as error:
                st.error(ui.plain(error))
                return
    ticket = st.session_state["review-ticket"]
    if ticket.state in ("waiting", "running"):
        with right:
            ui.watch(ticket, "Looking at each position", key="review")
    elif ticket.state == "done":
        findings(game, ticket.result(), left, right)
    else:
        st.session_state["reviewed"] = None
        if ticket.state == "failed":
            st.error(ui.plain(ticket.error))
        else:
            st.rerun()


def game_to_review() -> Game | None:
    """Takes an upload, else the game of the other tab."""
    file = st.file_uploader("A game", type=["sgf"], key="game", max_upload_size=SGF_MB,
                            help=f"SGF, at most {SGF_MB} MB; it stays in memory while the page is open.")
    if file is None:
        game = seat().game
        return game if len(game.moves) > 1 else None
    try:
        game = Game.from_sgf(file.getvalue())
    except ValueError as error:
        st.error(ui.plain(error))
        return None
    if game.name != "go" or not game.moves:
        st.error("This file holds no game of Go with moves; choose another.")
        return None
    return game


def findings(game: Game, thoughts: list, left, right) -> None:
    """Shows a reviewed game: the mistakes as a list, the curve, and the board at the chosen move."""
    found = reviewed.mistakes(game, thoughts)
    with right:
        rows = [{"Move": m.short, "Better": m.better, "Costs": 100 * m.loss} for m in found]
        chosen = []
        if rows:
            table = st.dataframe(
                rows, hide_index=True, key="mistakes", on_select="rerun", selection_mode="single-row",
                alt="The moves that cost most", column_config={
                    "Costs": st.column_config.ProgressColumn(format="%.0f %%", min_value=0, max_value=100)})
            chosen = table.selection.rows
        else:
            st.success("No move cost 5 % or more.")
        curve_of(drawing.curve(game, dict(enumerate(thoughts))))
    with left:
        mistake = found[chosen[0]] if chosen else None
        number = mistake.number - 1 if mistake else st.slider("Position after move", 0, len(game.moves), key="at")
        at, thought = game.at(number), thoughts[min(number, len(thoughts) - 1)]
        marks = {mistake.move: "mistake", mistake.better: "better"} if mistake else {}
        mount("review-board", drawing.board(at, thought.analysis, shows=["Search"] if number < len(thoughts) else [],
                                            marks=marks))
        if mistake:
            st.markdown(mistake.sentence)
            st.caption(f"It would go on: {' '.join(thought.analysis.pv)}")
        elif at.to_move == BLACK or number:
            st.markdown(drawing.verdict(at, thought))


# The page -------------------------------------------------------------------------------------------------------------

top = ui.header("Go", "Play against a small net that looks ahead: it says what it wants, how sure it is, and what "
                "looking ahead has changed.")
ready = loading()
if ready.state in ("waiting", "running"):
    ui.watch(ready, "The player gets ready (up to a minute the first time)", key="ready", cancel=False)
    st.stop()
if ready.state != "done":
    loading.clear()
    st.error(ui.plain(ready.error), title="The player could not be loaded")
    st.stop()
with top:
    ui.card(Card(**ready.result(0).card))
first, second = st.tabs(["Play", "Review"], key="go-tab", bind="query-params")
if first.open:
    with first:
        play_tab()
if second.open:
    with second:
        review_tab()
