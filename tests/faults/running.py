"""The long proofs under scripts/chaos, at the length of a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "chaos"


def chaos(name: str, *options: str) -> None:
    """Run a script with `--quick`; it must find every trial as promised."""
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), "--quick", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
