# Sourced by the scripts beside it: one virtual environment, made when missing, brought up to date when present.

install_into() { # folder, what to install
  local venv=$1 what=$2
  [ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/python" - <<'PYTHON'
import sys
if not (3, 10) <= sys.version_info[:2] < (3, 14):
    sys.exit("error: Python 3.10 to 3.13 is needed, not %d.%d\n  hint: PYTHON=python3.12 and a fresh VENV" % sys.version_info[:2])
PYTHON
  "$venv/bin/python" -m pip install --quiet --editable "$what"
}
