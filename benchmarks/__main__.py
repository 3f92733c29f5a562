"""Runs every benchmark, each in a process of its own: `python -m benchmarks`."""

import subprocess
import sys
from pathlib import Path

codes = []
for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
    print(f"# python -m benchmarks.{path.stem}", flush=True)
    codes.append(subprocess.run([sys.executable, "-m", f"benchmarks.{path.stem}"], check=False).returncode)
sys.exit(max(codes, default=0))
