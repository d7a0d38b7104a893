"""Decoding speed side by side: this package and other decoders on the same weights, in interleaved rounds.

    python scripts/bench/decode.py --install
    python scripts/bench/decode.py runs/NAME --rounds 3 --json decode.json \\
        --text data/multi30k/test_2016_flickr.en data/multi30k/test_2016_flickr.de \\
        --text data/multi30k/train.en data/multi30k/train.de
    python scripts/bench/decode.py runs/NAME --text SOURCE REFERENCE --only ours opennmt --beams 5 --rounds 1

The run's best checkpoint (a pre-norm Transformer, all embeddings tied) is written in a neutral form, from which each
decoder's loop (`decoders/loops`) fills the model of its own library. So all compute the same function; what differs is
told by two columns: BLEU, and the share of lines that are the very lines of the first decoder.

The clock runs from text to text in a process that has loaded its model and translated the text once before: segmenting,
search and joining are counted, starting is not. `ready, s` is the time until the model is loaded. `ours, the command`
is a whole `seq2seq translate` from start to end, all of that included. Beam search takes the length penalty
log P / length. Output tokens are the pieces of the output text, end marks counted. Peak memory: the largest sum over
the live processes of the run, shared pages counted once, as in `train.py`.

Each decoder has two cores. Those with workers of their own (ours, CTranslate2) use them as two of one thread each,
which suits small models better; `opennmt, 2 processes` are two copies with one thread each that share the lines, which
its users would have to arrange themselves. Hugging Face has the model as M2M100, its pre-norm kind; lines are sorted
by length for decoders that do not sort. JoeyNMT keeps no cache, hence the first 200 lines only. Marian (pymarian
1.12.42) is not among them: it translates such a pre-norm model wrongly. The environments are those of `train.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from decoders.system import DECODERS, Decoder
from decoders.weights import write_weights
from train import RunError, install, run

_HERE = Path(__file__).resolve().parent
_SOURCES = _HERE.parents[1] / "src"
_CACHE = Path.home() / ".cache" / "seq2seq-bench"
_RUN_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class Text:
    """One text to translate."""

    source: Path
    references: list[str]
    lines: int


@dataclass
class Cell:
    """Everything measured of one decoder on one text with one beam."""

    decoder: str
    text: str
    beam: int
    seconds: list[float] = field(default_factory=list)
    """One a round, as the next ones."""
    ratios: list[float] = field(default_factory=list)
    """Sentences/s over those of the first decoder in the same round."""
    ready: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    """MiB."""
    sentences: int = 0
    tokens: int = 0
    bleu: float = 0.0
    signature: str = ""
    same: float = 0.0
    """Share of lines that are those of the first decoder."""
    failures: list[str] = field(default_factory=list)

    def speed(self) -> float:
        """Median sentences/s; 0 where nothing was measured."""
        return self.sentences / statistics.median(self.seconds) if self.seconds else 0.0


def main() -> None:
    """Install, or measure and print the tables."""
    options = _options()
    sys.path.insert(0, str(_SOURCES))
    decoders = _chosen(options.only)
    if options.install:
        for name, stubs in {decoder.environment: decoder.stubs for decoder in decoders if decoder.environment}.items():
            install(name, stubs, options.environments)
    if options.run is None:
        return
    options.work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="decode-", dir=options.work))
    texts = {path.stem: _text(path, reference, options.lines) for path, reference in options.text}
    cells = [Cell(decoder.name, text, beam) for beam in options.beams for text in texts for decoder in decoders]
    try:
        write_weights(options.run, folder / "weights")
        for number in range(options.rounds):
            for beam in options.beams:
                chosen = [cell for cell in cells if cell.beam == beam]
                one_round(decoders, beam, chosen, texts, folder, options, number)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        print(
            "\n\n".join(
                table([c for c in cells if (c.beam, c.text) == (beam, text)], texts[text].lines)
                for beam in options.beams
                for text in texts
            )
        )
        if options.json:
            record = {
                "cores": len(os.sched_getaffinity(0)),
                "python": platform.python_version(),
                "rounds": options.rounds,
            }
            record |= {"threads": options.threads, "run": str(options.run), "cells": [asdict(cell) for cell in cells]}
            options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="run directory of a Transformer as described above")
    parser.add_argument(
        "--text", nargs=2, type=Path, action="append", default=[], metavar=("SOURCE", "REFERENCE"), help="repeatable"
    )
    parser.add_argument("--lines", type=int, default=3000, help="of each text at most (default: 3000)")
    parser.add_argument("--beams", nargs="+", type=int, default=[5, 1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="cores of every decoder (default: 2)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these decoders alone; the first is the yardstick")
    parser.add_argument("--batch", type=int, help="sentences at once of those whose loop makes batches")
    parser.add_argument("--install", action="store_true", help="make the environments of the chosen decoders")
    parser.add_argument("--environments", type=Path, default=_CACHE / "environments")
    parser.add_argument("--work", type=Path, default=_CACHE / "work", help="folder for weights and outputs")
    parser.add_argument("--timeout", type=float, default=900, help="seconds that one process may take (default: 900)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there as well")
    options = parser.parse_args()
    if options.run is None and not options.install:
        parser.error("RUN is needed, or --install")
    if options.run is not None and not options.text:
        parser.error("--text SOURCE REFERENCE is needed")
    if len({source.stem for source, _ in options.text}) < len(options.text):
        parser.error("texts need different names")
    for name in ("environments", "work"):
        setattr(options, name, getattr(options, name).expanduser().absolute())
    return options


def _chosen(only: list[str] | None) -> list[Decoder]:
    """In the order asked for."""
    if only is None:
        return list(DECODERS)
    known = {decoder.name: decoder for decoder in DECODERS}
    if unknown := [name for name in only if name not in known]:
        names = ", ".join(f'"{name}"' for name in known)
        sys.exit(f"error: no such decoder: {', '.join(unknown)}\n  hint: one of {names}")
    return [known[name] for name in only]


def _text(source: Path, reference: Path, most: int) -> Text:
    references = [line.strip() for line in reference.read_text(encoding="utf-8").rstrip("\n").split("\n")[:most]]
    return Text(source.absolute(), references, len(references))


def one_round(
    decoders: list[Decoder],
    beam: int,
    cells: list[Cell],
    texts: dict[str, Text],
    folder: Path,
    options: argparse.Namespace,
    number: int,
) -> None:
    """Every decoder once, with one beam, on all texts."""
    first: dict[str, list[str]] = {}
    speeds: dict[str, float] = {}
    for decoder in decoders:
        mine = {cell.text: cell for cell in cells if cell.decoder == decoder.name}
        place = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
        try:
            found, peak = measure(decoder, beam, {name: texts[name].source for name in mine}, place, folder, options)
        except RunError as failure:
            for cell in mine.values():
                cell.failures.append(str(failure))
            print(f"round {number + 1}  beam {beam}  {decoder.name:30} failed: {failure}", file=sys.stderr)
            continue
        for name, cell in mine.items():
            outputs = (place / f"{name}.out").read_text(encoding="utf-8").rstrip("\n").split("\n")
            first.setdefault(name, outputs)
            cell.seconds.append(found["seconds"][name])
            cell.ready.append(found["ready"])
            cell.peaks.append(peak)
            _judge(cell, outputs, first[name], texts[name], folder / "weights" / "pieces.model")
            speed = cell.sentences / cell.seconds[-1]
            cell.ratios.append(speed / speeds.setdefault(name, speed))
            line = f"round {number + 1}  beam {beam}  {decoder.name:30} {name:20} {speed:8,.1f} sentences/s"
            print(f"{line}  BLEU {cell.bleu:.2f}  same {cell.same:.1%}", file=sys.stderr)
        shutil.rmtree(place)


def measure(
    decoder: Decoder, beam: int, texts: dict[str, Path], place: Path, folder: Path, options: argparse.Namespace
) -> tuple[dict[str, Any], float]:
    """The seconds of every text, those until ready, and the peak MiB of one process; outputs lie in `place`.

    Raises:
        RunError: it is not installed, ended with an error, took too long, or printed nothing.
    """
    python = Path(sys.executable)
    if decoder.environment:
        python = options.environments / decoder.environment / "bin" / "python"
        if not python.exists():
            raise RunError(f"no environment at {python.parent.parent} (--install makes it)")
    environment = {name: value for name, value in os.environ.items() if name not in _RUN_THREADS}
    environment |= {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    if not decoder.environment:
        environment |= _here()
    lines = min(decoder.lines or options.lines, options.lines)
    if decoder.loop == "command":
        return _command(texts, beam, lines, place, environment, options)
    threads = decoder.threads or max(1, options.threads // decoder.processes)
    if decoder.environment:
        environment["OMP_NUM_THREADS"] = str(threads)
    job = {
        "model": str(folder / "weights"),
        "folder": str(place),
        "texts": {name: str(path) for name, path in texts.items()},
        "lines": lines,
        "beam": beam,
        "batch": options.batch or decoder.batch,
        "threads": threads,
        "processes": decoder.processes,
        "options": {"run": str(_trained(decoder, folder, place, environment, options)), **decoder.options},
    }
    (place / "job.json").write_text(json.dumps({**job, "started": time.time()}), encoding="utf-8")
    loop = [str(python), str(_HERE / "decoders" / "loops" / f"{decoder.loop}.py"), str(place / "job.json")]
    output, peak = run(loop, environment, place, options.timeout)
    for line in reversed(output.splitlines()):
        if line.startswith('{"ready"'):
            found: dict[str, Any] = json.loads(line)
            return found, peak
    raise RunError(f"no figures in what it printed; its end:\n{output[-600:]}")


def _here() -> dict[str, str]:
    """This checkout rather than an installed one."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(_SOURCES), os.environ.get("PYTHONPATH")]))}


def _trained(
    decoder: Decoder, folder: Path, place: Path, environment: dict[str, str], options: argparse.Namespace
) -> Path:
    """What `run_ours` loads: the run, or its export, which is written on first use."""
    trained: Path = options.run.absolute()
    if decoder.export is None:
        return trained
    exported = folder / f"export-{decoder.export}"
    if not exported.exists():
        command = [sys.executable, "-m", "seq2seq", "export", str(trained), "--format", "ctranslate2", "-q"]
        where = ["--quantization", decoder.export, "-o", str(exported)]
        run([*command, *where], environment, place, options.timeout)
    return exported


def _command(
    texts: dict[str, Path], beam: int, lines: int, place: Path, environment: dict[str, str], options: argparse.Namespace
) -> tuple[dict[str, Any], float]:
    """`seq2seq translate` of each text, from its start to its end."""
    seconds, peaks = {}, []
    for name, path in texts.items():
        source, target = place / f"{name}.in", place / f"{name}.out"
        first = path.read_text(encoding="utf-8").rstrip("\n").split("\n")[:lines]
        source.write_text("".join(line + "\n" for line in first), encoding="utf-8")
        command = [sys.executable, "-m", "seq2seq", "translate", str(options.run.absolute()), str(source)]
        settings = ["-o", str(target), "-b", str(beam), "--length-penalty", "1", "-q"]
        begun = time.perf_counter()
        _, peak = run([*command, *settings], environment, place, options.timeout)
        seconds[name] = time.perf_counter() - begun
        peaks.append(peak)
    return {"seconds": seconds, "ready": 0.0}, max(peaks)


def _judge(cell: Cell, outputs: list[str], first: list[str], text: Text, pieces: Path) -> None:
    """Counts and scores of the outputs."""
    from sacrebleu.metrics import BLEU
    from sentencepiece import SentencePieceProcessor

    metric = BLEU()
    score = metric.corpus_score(outputs, [text.references[: len(outputs)]])
    cell.bleu, cell.signature = score.score, str(metric.get_signature())
    cell.sentences = len(outputs)
    cell.tokens = sum(len(row) + 1 for row in SentencePieceProcessor(model_file=str(pieces)).encode(outputs))
    cell.same = sum(a == b for a, b in zip(outputs, first, strict=False)) / len(outputs)


def table(cells: list[Cell], lines: int) -> str:
    """The cells of one text and beam, in Markdown."""
    first = cells[0]
    rows = [
        f"| {first.text}, {lines:,} lines, beam {first.beam} | sentences/s | range | times `{first.decoder}` "
        "| tokens/s | BLEU | same lines | ready, s | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in sorted(cells, key=lambda cell: -cell.speed()):
        if not cell.seconds:
            rows.append(f"| {cell.decoder} | {'failed' if cell.failures else 'not run'} | | | | | | | |")
            continue
        few = "" if cell.sentences == lines else f" ({cell.sentences} lines)"
        speeds = [cell.sentences / seconds for seconds in cell.seconds]
        ratio = statistics.median(cell.ratios)
        rows.append(
            f"| {cell.decoder}{few} | {cell.speed():,.0f} | {min(speeds):,.0f}-{max(speeds):,.0f} | {ratio:.2f} "
            f"| {cell.tokens / statistics.median(cell.seconds):,.0f} | {cell.bleu:.2f} | {cell.same:.1%} "
            f"| {statistics.median(cell.ready):.1f} | {statistics.median(cell.peaks):,.0f} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
