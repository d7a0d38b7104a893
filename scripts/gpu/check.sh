#!/usr/bin/env bash
# Everything that needs a GPU, in at most eight minutes: the tests marked gpu, the training step and the search measured,
# and, with a folder of Multi30k as text, BLEU after a minute of training. Prints a block for scripts/bench/RESULTS.md.
#
#     scripts/gpu/check.sh [FOLDER]
#
# PYTHON names the interpreter, one with seq2seq, its test extras and a torch for the GPU at hand.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python}
if ! "$python" -c 'import seq2seq, torch; raise SystemExit(not torch.cuda.is_available())' 2>/dev/null; then
    echo "error: $python has no seq2seq, or its torch finds no CUDA device; see $python -m seq2seq doctor" >&2
    exit 2
fi
"$python" -m pytest -m gpu -n 0
exec "$python" scripts/gpu/check.py "$@"
