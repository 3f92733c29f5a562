"""A visitor's game: what clicks, undo, passes and addresses do to it, and what the page makes of a thought."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.go import drawing, reviewed, table, thinking
from apps.go.game import BLACK, WHITE, Game
from apps.go.model import ModelConfig, Net
from apps.go.player import Analysis, Candidate
from apps.go.predict import Player
from apps.go.table import Table
from apps.go.thinking import Thought
from core.card import Card


@pytest.fixture(scope="module")
def player():
    torch.manual_seed(0)
    return Player(Net(ModelConfig(blocks=1, channels=8, head=4)), Card("go", {}), precision="float32")


def thought(game, move, winrate, visits=64):
    policy = np.zeros(game.spec.actions, np.float32)
    policy[0] = 1
    seen = np.zeros(game.spec.actions, int)
    best = Candidate(move, visits - 1, winrate, 1.0, 0.5, [move])
    return Thought(Analysis(move, winrate, 1.0, np.ones(game.board.shape), policy, seen, [move], [best]), visits, 1.0)


def test_a_click_plays_once_and_only_in_the_position_it_was_made_in():
    here = Table()
    here.click(40, 0)
    assert [m.vertex for m in here.game.moves] == ["E5"]
    here.click(41, 0)  # of the position before
    assert len(here.game.moves) == 1
    assert not here.mine
    here.play("C3")
    assert "not your turn" in here.notice
    here.click(-5, here.serial)
    here.click(10_000, here.serial)
    assert len(here.game.moves) == 1


def test_an_illegal_move_is_told_and_not_played():
    here = Table(side=0)
    here.play("E5")
    here.play("E5")
    assert "E5: occupied" in here.notice
    assert len(here.game.moves) == 1


def test_undo_takes_the_reply_back_too_and_forgets_what_was_thought_later():
    here = Table()
    for vertex in ("E5", "C3"):
        here.game.play(vertex)
    here.thoughts = {n: thought(here.game, "A1", 0.5) for n in range(3)}
    here.undo()
    assert not here.game.moves
    assert set(here.thoughts) == {0}
    here.resign()
    assert (here.result, here.finished) == ("W+R", True)
    here.undo()
    assert not here.finished


def test_after_two_passes_stones_are_marked_and_play_can_go_on():
    here = Table(side=0)
    for vertex in ("E5", "E6", "pass", "pass"):
        here.play(vertex)
    assert here.game.over
    here.thoughts[4] = thought(here.game, "pass", 0.5)
    before = set(here.dead)
    here.click(40, here.serial)
    assert set(here.dead) ^ before == {"E5"}
    here.resume()
    assert not here.game.over
    assert len(here.game.moves) == 3


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(table.SIZES), st.lists(st.integers(0, 360), max_size=30), st.sampled_from(list(table.SIDES)))
def test_an_address_finds_the_same_game(size, picks, side):
    here = Table(Game("go", size))
    here.side = table.SIDES[side]
    for pick in picks:
        legal = here.game.legal()
        if here.game.over:
            break
        here.game.play(legal[pick % len(legal)])
    there = Table.at(here.address())
    assert there.game.moves == here.game.moves
    assert np.array_equal(there.game.board, here.game.board)
    assert there.address() == here.address()


@pytest.mark.parametrize("address", [
    {"size": "100"}, {"size": "-1", "visits": "9999999", "komi": "inf"}, {"moves": "zz"}, {"moves": "eeee"},
    {"moves": "ee" * 5000}, {"handicap": "77", "komi": "x", "colour": "<b>"}, {"moves": "../../etc"},
])
def test_a_strange_address_is_a_plain_game(address):
    here = Table.at(address)
    assert here.game.spec.rows == 9
    assert len(here.game.moves) <= 1
    assert bool(here.notice) == ("moves" in address)


def test_the_player_replies_through_the_table(player, monkeypatch):
    class Done:
        state, error = "done", None

        def __init__(self, found):
            self.found = found

        def result(self, seconds=None):
            return self.found

    monkeypatch.setattr(thinking, "_player", lambda name: player)
    monkeypatch.setattr(table, "ask", lambda game, visits: Done(thinking.think("", thinking.light(game), visits)))
    here = Table(visits=16)
    here.play("E5")
    for _ in range(3):
        here.go_on()
    assert [m.colour for m in here.game.moves] == [BLACK, WHITE]
    assert here.mine
    assert here.thought.visits == thinking.LOOK
    assert here.thoughts[1].visits == 16


def test_what_is_drawn_is_plain_data_and_says_what_the_search_says(player):
    import json

    game = Game("go", 9)
    for vertex in ("E5", "E6", "D6"):
        game.play(vertex)
    found = player.analyse(game, visits=30)
    data = drawing.board(game, found, shows=drawing.SHOWS, can_play=True)
    assert json.loads(json.dumps(data)) == data
    assert data["stones"][40] == 1
    assert [m["best"] for m in data["moves"]].count(True) == (found.move != "pass")
    assert sum(m["visits"] for m in data["moves"]) <= 29
    assert [step["n"] for step in data["line"]] == sorted(step["n"] for step in data["line"])
    assert len(data["own"]) == 81
    assert drawing.verdict(game, Thought(found, 30, 1.0)).startswith("The net wants ")
    rows = drawing.candidates(game, found)
    assert rows[0]["Move"] == found.moves[0].move


def test_a_mistake_is_the_loss_of_the_movers_chance():
    game = Game("go", 9)
    for vertex in ("E5", "A1", "C3"):
        game.play(vertex)
    # Black keeps 0.5; White falls from 0.5 to 0.2; Black goes from 0.8 to 0.7.
    plan = (("E5", 0.5), ("C7", 0.5), ("G7", 0.8), ("pass", 0.3))
    thoughts = [thought(game, move, winrate) for move, winrate in plan]
    found = reviewed.mistakes(game, thoughts)
    assert [(m.number, m.move, m.better, round(m.loss, 3)) for m in found] == [
        (2, "A1", "C7", 0.3), (3, "C3", "G7", 0.1)]
    assert "costs 30 %" in found[0].sentence


def test_a_review_looks_at_each_position_once(player, monkeypatch):
    monkeypatch.setattr(thinking, "_player", lambda name: player)
    game, seen = Game("go", 5), []
    for vertex in ("C3", "B2", "D4"):
        game.play(vertex)
    thoughts = thinking.review("", game, 4, lambda done, total: seen.append((done, total)))
    assert len(thoughts) == 4
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
