import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core import jobs
from tests.core import pieces
from tests.core.loopback import on_loopback
from tests.core.pieces import Piece

ROOT = Path(__file__).resolve().parents[2]

TWO_NODES = """
import json, os, random, signal, sys, threading
from pathlib import Path
from ray.cluster_utils import Cluster
from core import jobs
from tests.core import pieces

out, marks = Path(sys.argv[1]), Path(sys.argv[2])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
node = cluster.add_node(num_cpus=2)
kills, over = [], threading.Event()

def trouble():
    chance = random.Random(1)
    while not over.wait(0.3):
        recent = sorted(marks.iterdir(), key=lambda mark: int(mark.name.split("-")[-1]))[-3:]
        recent = [mark for mark in recent if mark.name.count("-") == 2]
        if recent and len(kills) < 4:
            pid = int(chance.choice(recent).name.split("-")[1])
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            kills.append(pid)
            if len(kills) == 3:
                cluster.remove_node(node)

thread = threading.Thread(target=trouble, daemon=True)
thread.start()
work = [pieces.Piece(number, marks, 0.05) for number in range(200)]
how = dict(key=pieces.key, write=pieces.write, out=out, cluster="auto")
report = jobs.run(pieces.digest_with_trouble, work, **how)
over.set()
thread.join()
again = jobs.run(pieces.digest, work, **how)
try:
    jobs.run(pieces.digest, [pieces.Piece(1000, marks)], threads=3, **how)
    asked = None
except ValueError as error:
    asked = str(error)
print(json.dumps([vars(report), vars(again), len(kills), asked]))
cluster.shutdown()
"""


def test_pieces_survive_killed_workers_and_a_lost_node(tmp_path, ray_folder):
    pytest.importorskip("ray")
    out, marks = tmp_path / "out", tmp_path / "marks"
    marks.mkdir()
    (tmp_path / "two_nodes.py").write_text(TWO_NODES)
    words = on_loopback([sys.executable, str(tmp_path / "two_nodes.py"), str(out), str(marks)])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    report, again, kills, asked = json.loads(ran.stdout.splitlines()[-1])
    assert kills == 4

    work = [Piece(number, marks) for number in range(200)]
    failed = dict(report["failed"])
    assert sorted(failed) == ["piece-007.bin", "piece-011.bin"]
    assert "5 workers died of it" in failed["piece-007.bin"]
    assert "ZeroDivisionError: eleven is not wanted" in failed["piece-011.bin"]
    assert sorted(report["done"] + list(failed)) == [pieces.key(piece) for piece in work]
    assert sorted(again["done"]) == sorted(failed)
    assert len(again["skipped"]) == 198

    landed = {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}
    code = landed.pop("piece-012.bin").decode()
    assert code.endswith("tests/core/pieces.py")
    assert not code.startswith(str(ROOT)), "the code on a node is to be this checkout's, sent there"
    assert landed == {pieces.key(piece): pieces.digest(piece) for piece in work if piece.number != 12}
    assert asked == "no node of the cluster has 3 CPUs and 0 GPUs, which a piece asks for."


def test_a_cluster_without_ray_is_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match="needs Ray, which is not installed: install the optional group `cluster`"):
        jobs.run(pieces.blank, [1], key=str, write=pieces.write, out=tmp_path, cluster="auto")


def test_no_cluster_there_is_said_in_one_sentence(tmp_path, ray_folder):
    pytest.importorskip("ray")
    with pytest.raises(ValueError, match="there is no Ray cluster at 'auto'"):
        jobs.run(pieces.blank, [1], key=str, write=pieces.write, out=tmp_path, cluster="auto")
    assert not (tmp_path / "1").exists()
