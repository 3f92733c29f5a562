"""A visitor's game: whose turn it is, undo, the end, the address; no page and no net."""

from types import SimpleNamespace

import numpy as np
import pytest

from apps.go import drawing, reviewed, table, vertex
from apps.go.game import BLACK, WHITE, Game
from apps.go.player import Analysis, Candidate
from apps.go.table import Table
from apps.go.thinking import Thought


def thought(game: Game, move: str, winrate: float = 0.5, visits: int = 64, ownership=None) -> Thought:
    """What a player might think who wants one move."""
    policy = np.zeros(game.spec.actions, np.float32)
    policy[vertex.parse(game.spec, move)] = 1
    own = np.zeros(game.board.shape, np.float32) if ownership is None else ownership
    candidate = Candidate(move, visits, winrate, 1.0, 1.0, [move])
    return Thought(Analysis(move, winrate, 1.0, own, policy, (visits * policy).astype(int), [move], [candidate]),
                   visits, 5.0)


@pytest.fixture
def asked(monkeypatch):
    """The positions that were handed in, in order; each is answered with the first legal move."""
    found = []

    def ask(game: Game, visits: int):
        found.append((len(game.moves), visits))
        answer = thought(game, "pass" if game.over else game.legal()[0], visits=visits)
        return SimpleNamespace(state="done", error=None, result=lambda: answer, cancel=lambda: None)

    monkeypatch.setattr(table, "ask", ask)
    return found


def settle(it: Table) -> None:
    for _ in range(4):
        it.go_on()


def test_the_player_answers_with_its_own_visits_and_looks_at_every_position(asked):
    it = Table(visits=16)
    settle(it)
    it.click(40, it.serial)
    assert not it.mine
    settle(it)
    assert [move.vertex for move in it.game.moves] == ["E5", "A9"]
    assert it.mine
    assert asked == [(0, 64), (1, 16), (2, 64)]
    assert drawing.curve(it.game, it.thoughts) == [{"Move": n, "Black": 50.0} for n in range(3)]


def test_a_click_on_an_older_position_counts_for_nothing(asked):
    it = Table()
    it.play("E5")
    settle(it)
    before = list(it.game.moves)
    it.click(3, it.serial - 1)
    it.click(9999, it.serial)
    assert it.game.moves == before


def test_an_illegal_move_is_a_sentence(asked):
    it = Table(side=0)
    it.play("E5")
    it.play("E5")
    assert it.notice == "E5: occupied."
    shown = it.serial
    it.click(40, shown)  # E5 again: the position is the same, and so is its serial
    assert it.notice == "E5: occupied."
    it.click(48, shown)  # D4, chosen before the notice was seen
    assert [move.vertex for move in it.game.moves] == ["E5", "D4"]
    assert it.notice == ""
    assert it.serial == shown + 1
    it = Table(side=WHITE)
    it.play("E5")
    assert "not your turn" in it.notice


def test_undo_takes_the_reply_back_too(asked):
    it = Table()
    for move in ("E5", "C3"):
        it.play(move)
        settle(it)
    it.undo()
    assert [m.vertex for m in it.game.moves] == ["E5", "A9"]
    assert max(it.thoughts) == 2
    it.resign()
    assert it.result == "W+R"
    assert "White wins" in it.status
    it.undo()
    assert it.mine


def test_one_who_plays_white_cannot_take_the_first_move_back(asked):
    it = Table(side=WHITE)
    settle(it)
    assert len(it.game.moves) == 1
    it.undo()
    settle(it)
    assert len(it.game.moves) == 1
    assert it.mine


def test_dead_stones_are_counted_as_such_and_may_be_disputed(asked):
    it = Table(Game("go", 5, 0.5), side=0)
    for move in ("C3", "A1", "D3", "pass", "pass"):
        it.play(move)
    own = np.ones((5, 5), np.float32)
    it.thoughts[5] = thought(it.game, "pass", ownership=own)
    assert it.dead == ["A1"]
    assert it.result == "B+24.5"
    it.click(20, it.serial)  # A1
    assert it.dead == []
    assert it.result == it.game.result()
    it.click(20, it.serial)
    assert it.dead == ["A1"]


def test_the_record_says_who_played_and_how_it_ended():
    it = Table.at({"moves": "eecc", "visits": "16", "resigned": "black"})
    game = Game.from_sgf(it.record("m"))
    assert [m.vertex for m in game.moves] == ["E5", "C7"]
    assert (game.info["PB"], game.info["PW"], game.info["RE"]) == ("Visitor", "Wunderkammer m, 16 visits", "W+R")


def test_a_failure_is_told_and_tried_again(monkeypatch):
    broken = SimpleNamespace(state="failed", error="no model", cancel=lambda: None)
    monkeypatch.setattr(table, "ask", lambda game, visits: broken)
    it = Table()
    it.go_on()
    it.go_on()
    assert "no model" in it.notice


@pytest.mark.parametrize("settings", [
    {"size": "9", "colour": "white", "visits": "16", "komi": "6.5", "moves": "eettcc"},
    {"size": "13", "colour": "both", "visits": "1", "komi": "0.5", "moves": "ggtt", "handicap": "4"},
    {"size": "19", "colour": "black", "visits": "256", "komi": "-3", "moves": "", "resigned": "black"},
])
def test_the_address_says_all(settings):
    it = Table.at(settings)
    assert it.notice == ""
    assert it.address() == settings


@pytest.mark.parametrize("address", [
    {"size": "100"}, {"size": "-9", "komi": "inf"}, {"komi": "nan", "visits": "1e9"}, {"colour": "<b>"},
    {"moves": "e"}, {"moves": "EE"}, {"moves": "ee" * 5000}, {"moves": "ss"}, {"handicap": "99"}, {"size": "x" * 5000},
    {"size": "²"}, {"komi": ""}])
def test_an_address_full_of_nonsense_is_a_new_game(address):
    it = Table.at(address)
    assert (it.game.spec.rows, it.game.komi, it.side, it.visits) == (9, 7.0, BLACK, 64)
    assert not it.game.moves
    assert bool(it.notice) == ("moves" in address)


def test_an_illegal_move_in_the_address_ends_it():
    it = Table.at({"moves": "eeffee"})
    assert [m.vertex for m in it.game.moves] == ["E5", "F4"]
    assert "occupied" in it.notice


def test_a_game_with_two_moves_of_one_side_has_no_address():
    game = Game("go", 9)
    game.play("E5")
    game.play("D4", "black")
    assert table.packed(game) == ""


def test_the_board_tells_what_lies_where():
    game = Game("go", (5, 7))
    game.play("C3")
    data = drawing.board(game, thought(game, "D4", 0.25).analysis, shows=drawing.SHOWS, serial=3, can_play=True)
    assert (data["rows"], data["columns"], data["last"], data["toMove"]) == (5, 7, 16, -1)
    assert data["stones"][16] == 1
    assert sum(map(abs, data["stones"])) == 1
    assert 16 not in data["legal"]
    assert data["moves"] == [{"p": 10, "visits": 64, "rate": 0.25, "best": True, "share": 1.0}]
    assert data["line"] == [{"p": 10, "colour": -1, "n": 1}]
    assert drawing.board(game)["legal"] == []


def test_a_ko_is_marked():
    game = Game("go", 5)
    for move in ("B3", "C3", "A2", "D2", "B1", "C1", "C2", "B2"):
        game.play(move)
    assert drawing.board(game, can_play=True)["ko"] == [vertex.parse(game.spec, "C2")]


@pytest.mark.parametrize(("size", "number"), [(5, 1), (7, 5), (9, 5), (13, 5), (19, 9)])
def test_star_points(size, number):
    points = drawing.stars(size, size)
    assert len(points) == number
    turned = {(p % size) * size + size - 1 - p // size for p in points}
    assert turned == set(points)


def test_a_change_of_mind_is_said():
    game = Game("go", 9)
    one = thought(game, "E5", 0.6)
    assert "agree" in drawing.verdict(game, one)
    assert "without any search" in drawing.verdict(game, thought(game, "E5", visits=1))
    other = thought(game, "D4").analysis.moves[0]
    changed = Thought(Analysis("D4", 0.6, 0, None, one.analysis.policy, one.analysis.visits, ["D4"],
                               [other, one.analysis.moves[0]]), 64, 1.0)
    assert "Search changed its mind:** D4, which wins 50 % against 60 %" in drawing.verdict(game, changed)
    assert [row["Move"] for row in drawing.candidates(game, changed.analysis)][:2] == ["D4", "E5"]


def test_elo_is_shown_only_where_it_was_measured(tmp_path):
    path = tmp_path / "results.json"
    assert drawing.strength(64, path) == "64"
    path.write_text('{"elo": {"64": {"value": 812.4}, "16": "much"}}')
    assert drawing.strength(64, path) == "64 · Elo 812"
    assert drawing.strength(16, path) == "16"
    assert drawing.strength(1, path) == "1, no search"


def test_mistakes_are_losses_of_the_movers_chance():
    game = Game("go", 9)
    for move in ("E5", "A1", "C3"):
        game.play(move)
    rates = [0.5, 0.5, 0.8, 0.3]  # of the side to move: White's A1 takes Black from 0.5 to 0.8
    wanted = ["E5", "D4", "G7", "F6"]
    thoughts = [thought(game.at(i), move, rate) for i, (move, rate) in enumerate(zip(wanted, rates, strict=True))]
    assert reviewed.losses(game, thoughts) == pytest.approx([0, 0.3, 0.1])
    first, second = reviewed.mistakes(game, thoughts)
    assert (first.number, first.colour, first.better) == (2, WHITE, "D4")
    assert first.sentence == ("Move 2, White A1, costs 30 %: White's chances fall from 50 % to 20 %. Better is D4.")
    assert second.short == "3 · Black C3"
    assert reviewed.mistakes(game, thoughts, (BLACK,)) == [second]
