"""Training speed side by side: this package, a plain PyTorch loop and other toolkits, in interleaved rounds.

    python scripts/bench/train.py --install
    python scripts/bench/train.py data/multi30k/train.en data/multi30k/train.de --rounds 3
    python scripts/bench/train.py data/multi30k/train.en data/multi30k/train.de --kind gru --json gru.json
    python scripts/bench/train.py data/multi30k/train.en data/multi30k/train.de --only ours plain -- devices=2

All train the same model on the same segmented text: joint BPE of 8,000, label smoothing 0.1, dropout 0.1, one embedding
used three times, about 4,096 padded tokens of the longer side an update, Adam, gradients clipped at norm 1.
  transformer  3+3 layers, width 256, feed-forward 1,024, 4 heads
  gru          bidirectional encoder (128 each way), one-layer decoder of width 256, additive attention, input feeding
The others drop out attention weights too (`plain`, marian and opennmt also inside the feed-forward blocks); `ours`
follows the package's defaults, which do not, and `ours, dropout everywhere` does as `plain`.

Each measurement is a process of its own. What it logs of its first updates (`--warm-up`) is left out; the rest is
averaged by time (harmonic mean of its log lines). The table has medians over the rounds, the range, the median over
rounds of the ratio to `plain` in the same round, and the peak memory: the largest sum, over the live processes of the
run, of each one's proportional set size (Linux; read twice a second). A page that n processes share, such as those of a
library or of a forked process, counts as 1/n of a page in each.
`ours` are real runs of `seq2seq train`, which choose processes, threads and precision themselves.

The others live in environments of their own, made by `--install` with the interpreter that runs this script (3.11 for
these pins). torch is installed first: where pip would find a CUDA build, point it at a CPU one (PIP_FIND_LINKS).
fairseq 0.12.2 is not among them: it installs on Python 3.11, but its import ends with "mutable default ... for field
common is not allowed". Words after `--` are settings for `ours`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from peers import huggingface, joeynmt, marian, opennmt_family, ours, plain
from peers.system import KINDS, LOG_EVERY, VOCABULARY, Corpus, Job, System

_HERE = Path(__file__).resolve().parent
_CACHE = Path.home() / ".cache" / "seq2seq-bench"
_TORCH = "torch==2.13.0"
_YARDSTICK = "plain"


class RunError(Exception):
    """A system did not get to the end; the message says how."""


@dataclass
class Row:
    """Everything measured of one system."""

    name: str
    speeds: list[float] = field(default_factory=list)
    """Target tokens/s, one a round."""
    ratios: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    """MiB, one a round."""
    failures: list[str] = field(default_factory=list)


def main() -> None:
    """Install, or measure and print the table."""
    options = _options()
    chosen = _chosen(options.only, options.kind, options.settings)
    if options.install:
        for name, stubs in {system.environment: system.stubs for system in chosen if system.environment}.items():
            install(name, stubs, options.environments)
    if options.source is None:
        return
    corpus = segment(options.source, options.target, options.work)
    rows = {system.name: Row(system.name) for system in chosen}
    try:
        for number in range(options.rounds):
            one_round(chosen, rows, corpus, options, number)
    finally:
        print(table(list(rows.values()), options.kind, options.threads))
        if options.json:
            options.json.write_text(json.dumps(_record(rows, options), indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", type=Path, help="text of the source side, one sentence a line")
    parser.add_argument("target", nargs="?", type=Path, help="text of the target side")
    parser.add_argument("--kind", choices=KINDS, default="transformer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=60, help="counted ones of each run (default: 60)")
    parser.add_argument("--warm-up", type=int, default=20, help="updates before them (default: 20)")
    parser.add_argument("--threads", type=int, default=2, help="of every system but `ours` (default: 2)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these systems alone")
    parser.add_argument("--install", action="store_true", help="make the environments of the chosen systems")
    parser.add_argument("--environments", type=Path, default=_CACHE / "environments")
    parser.add_argument("--work", type=Path, default=_CACHE / "work", help="folder for text, caches and run folders")
    parser.add_argument("--timeout", type=float, default=900, help="seconds that one run may take (default: 900)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there as well")
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:cut])
    options.settings = arguments[cut + 1 :]
    if (options.source is None) != (options.target is None):
        parser.error("SOURCE and TARGET belong together")
    if options.source is None and not options.install:
        parser.error("SOURCE and TARGET are needed, or --install")
    for name in ("updates", "warm_up"):
        if getattr(options, name) % LOG_EVERY:
            parser.error(f"--{name.replace('_', '-')} must be a multiple of {LOG_EVERY}, the distance of log lines")
    for name in ("environments", "work"):
        setattr(options, name, getattr(options, name).expanduser().absolute())
    return options


def _chosen(only: list[str] | None, kind: str, settings: list[str]) -> list[System]:
    peers = (*joeynmt.SYSTEMS, *huggingface.SYSTEMS, *marian.SYSTEMS, *opennmt_family.SYSTEMS)
    everything = [*plain.SYSTEMS, *ours.systems(settings), *peers]
    fitting = [system for system in everything if kind in system.kinds]
    if only is None:
        return fitting
    if unknown := set(only) - {system.name for system in fitting}:
        names = ", ".join(f'"{system.name}"' for system in fitting)
        sys.exit(f"error: no such {kind} system: {', '.join(sorted(unknown))}\n  hint: one of {names}")
    return [system for system in fitting if system.name in only]


def install(name: str, stubs: tuple[str, ...], environments: Path) -> None:
    """One environment: torch first, so that nothing brings another build of it, then the pinned rest as it stands."""
    pins = _HERE / "peers" / f"{name}.txt"
    folder = environments / name
    mark, wanted = folder / "installed", hashlib.sha256(pins.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return
    print(f"installing {name} into {folder}", file=sys.stderr)
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    if _TORCH in pins.read_text(encoding="utf-8").split():
        subprocess.run([*pip, _TORCH], check=True)
    subprocess.run([*pip, "--no-deps", "--requirement", str(pins)], check=True)
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
    packages = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    for stub in stubs:
        (packages / f"{stub}.py").touch()
    mark.write_text(wanted, encoding="utf-8")


def segment(source: Path, target: Path, work: Path) -> Corpus:
    """Train the joint BPE model with `seq2seq tokenizer train` and segment both sides; done once for each corpus."""
    from sentencepiece import SentencePieceProcessor

    digest = hashlib.sha256()
    for path in (source, target):
        digest.update(path.read_bytes())
    folder = work / f"corpus-{digest.hexdigest()[:12]}"
    corpus = Corpus(
        raw_source=source.absolute(),
        raw_target=target.absolute(),
        source=folder / "source.pieces",
        target=folder / "target.pieces",
        vocabulary=folder / "vocabulary.txt",
        model=folder / "joint.model",
    )
    if corpus.vocabulary.exists():
        return corpus
    job = Job("transformer", corpus, folder, Path(sys.executable), 0, 1)
    train = ["-m", "seq2seq", "tokenizer", "train", "-s", str(source), "-t", str(target), "-o", str(folder), "-q"]
    settings = ["kind=bpe", f"vocabulary_size={VOCABULARY}"]
    subprocess.run([sys.executable, *train, *settings], check=True, env={**os.environ, **ours.variables(job)})
    processor = SentencePieceProcessor(model_file=str(corpus.model))
    for raw, segmented in ((source, corpus.source), (target, corpus.target)):
        lines = raw.read_text(encoding="utf-8").rstrip("\n").split("\n")
        pieces = processor.encode([line.strip() for line in lines], out_type=str)
        segmented.write_text("".join(" ".join(line) + "\n" for line in pieces), encoding="utf-8")
    ids = range(processor.get_piece_size())
    kept = [processor.id_to_piece(i) for i in ids if not (processor.is_control(i) or processor.is_unknown(i))]
    corpus.vocabulary.write_text("".join(piece + "\n" for piece in kept), encoding="utf-8")
    return corpus


def one_round(
    systems: list[System], rows: dict[str, Row], corpus: Corpus, options: argparse.Namespace, number: int
) -> None:
    """Every system once."""
    speeds: dict[str, float] = {}
    for system in systems:
        row = rows[system.name]
        try:
            speeds[system.name], peak = measure(system, corpus, options)
        except RunError as failure:
            row.failures.append(str(failure))
            print(f"round {number + 1}  {system.name:26} failed: {failure}", file=sys.stderr)
            continue
        row.speeds.append(speeds[system.name])
        row.peaks.append(peak)
        print(f"round {number + 1}  {system.name:26} {row.speeds[-1]:8,.0f} tokens/s {peak:8,.0f} MiB", file=sys.stderr)
    if _YARDSTICK in speeds:
        for name, speed in speeds.items():
            rows[name].ratios.append(speed / speeds[_YARDSTICK])


def measure(system: System, corpus: Corpus, options: argparse.Namespace) -> tuple[float, float]:
    """Target tokens/s after the warm-up, and peak MiB, of one run.

    Raises:
        RunError: it is not installed, ended with an error, took too long, or logged nothing.
    """
    python = Path(sys.executable)
    if system.environment:
        python = options.environments / system.environment / "bin" / "python"
        if not python.exists():
            raise RunError(f"no environment at {python.parent.parent} (--install makes it)")
    options.work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=options.work))
    try:
        job = Job(options.kind, corpus, folder, python, options.warm_up + options.updates, options.threads)
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        environment |= {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", **system.variables(job)}
        if system.name.startswith("ours"):
            run(ours.prepare_command(job), environment, folder, options.timeout)
        output, peak = run(system.command(job), environment, folder, options.timeout)
        windows = [window for window in system.windows(job, output) if window.step > options.warm_up]
        if not windows:
            raise RunError(f"no speed in its log; its last lines:\n{_tail(output)}")
        return statistics.harmonic_mean([window.target_tokens_per_second for window in windows]), peak
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(command: list[str], environment: dict[str, str], folder: Path, timeout: float) -> tuple[str, float]:
    """Everything that a process printed, and the peak of its tree in MiB.

    Raises:
        RunError: it ended with an error or took too long.
    """
    log, peak, deadline = folder / "output.log", 0.0, time.monotonic() + timeout
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None and time.monotonic() < deadline:
                peak = max(peak, sum(_memory(pid) for pid in _tree(process.pid)))
                time.sleep(0.5)
            late = process.poll() is None
        finally:
            if process.poll() is None:
                _end(process)
    text = log.read_text(encoding="utf-8", errors="replace")
    if late:
        raise RunError(f"not finished after {timeout:.0f} s; its last lines:\n{_tail(text)}")
    if process.returncode:
        raise RunError(f"exit code {process.returncode}; its last lines:\n{_tail(text)}")
    return text, peak


def _tree(root: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - twice a second beside a measurement
        if entry.isdigit():
            try:
                status = Path("/proc", entry, "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:  # ended meanwhile
                continue
            parent = int(status.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def _memory(pid: int) -> float:
    """Proportional set size, MiB; 0 for a process that has ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0.0)


def _end(process: subprocess.Popen[bytes]) -> None:
    for pid in _tree(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def _tail(text: str) -> str:
    return "\n".join("    " + line[:200] for line in text.strip().splitlines()[-6:])


def table(rows: list[Row], kind: str, threads: int) -> str:
    """The table, in Markdown."""
    lines = [
        f"| {kind}, {threads} threads | target tokens/s | range | times `{_YARDSTICK}` | peak MiB |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -statistics.median(row.speeds or [0.0])):
        if not row.speeds:
            lines.append(f"| {row.name} | {'failed' if row.failures else 'not run'} | | | |")
            continue
        ratio = f"{statistics.median(row.ratios):.2f}" if row.ratios else ""
        lines.append(
            f"| {row.name} | {statistics.median(row.speeds):,.0f} | {min(row.speeds):,.0f}-{max(row.speeds):,.0f} "
            f"| {ratio} | {statistics.median(row.peaks):,.0f} |"
        )
    return "\n".join(lines)


def _record(rows: dict[str, Row], options: argparse.Namespace) -> dict[str, object]:
    return {
        "kind": options.kind,
        "rounds": options.rounds,
        "updates": options.updates,
        "warm_up": options.warm_up,
        "threads": options.threads,
        "settings": options.settings,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "systems": [asdict(row) for row in rows.values()],
    }


if __name__ == "__main__":
    main()
