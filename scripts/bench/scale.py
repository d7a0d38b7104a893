"""Memory and speed of preparing and reading a corpus against its size.

    python scripts/bench/scale.py SOURCE TARGET [--pairs 100000 1000000] [--csv] [--folder DIR] [key=value ...]

Corpora of each size are made by repeating the lines of two files with words swapped and replaced; with `--csv`, each is
one table of quoted cells. Preparation and reading each run in a process of their own; memory is the peak of anonymous
pages (RssAnon, pages of mapped files apart) over that process and its children. The tokenizer learns from 100,000
sentences at every size unless settings say otherwise. Printed is a Markdown table, and what straight lines through it
give for 4.5 million pairs (WMT14) and 100 million.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SETTINGS = ["tokenizer.sample_size=100000", "training.batch_size=4096"]
READ_BATCHES = 200
COLUMNS = {
    "corpus": ("corpus, MB", "{:,.0f}"),
    "prepare_seconds": ("prepare, s", "{:,.1f}"),
    "pairs_per_second": ("pairs/s", "{:,.0f}"),
    "prepare_memory": ("prepare, peak MB", "{:,.0f}"),
    "disk": ("on disk, MB", "{:,.0f}"),
    "open_seconds": ("open, s", "{:.2f}"),
    "resume_seconds": ("first batch in mid-epoch, s", "{:.2f}"),
    "read_memory": ("read, peak MB", "{:,.0f}"),
    "target_tokens_per_second": ("target tokens/s", "{:,.0f}"),
}
WORLD = {4_500_000: "4.5 M (WMT14), by line", 100_000_000: "100 M, by line"}


def make_corpus(files: list[Path], pairs: int, folder: Path) -> list[Path]:
    """Two files of so many lines; every repetition changes words of its own."""
    made = [folder / f"{pairs}.source", folder / f"{pairs}.target"]
    for path, target in zip(files, made, strict=True):
        lines = [line.split(" ") for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        words = [word for line in lines for word in line]
        randomness = random.Random(1)
        with target.open("w", encoding="utf-8") as stream:
            for number in range(pairs):
                line = lines[number % len(lines)]
                if number >= len(lines):
                    line = line.copy()
                    line[randomness.randrange(len(line))] = randomness.choice(words)
                    place = randomness.randrange(len(line))
                    line[0], line[place] = line[place], line[0]
                stream.write(" ".join(line) + "\n")
    return made


def as_csv(files: list[Path]) -> Path:
    """One table of two files, which are removed."""
    table = files[0].with_suffix(".csv")
    with (
        files[0].open(encoding="utf-8") as source,
        files[1].open(encoding="utf-8") as target,
        table.open("w") as stream,
    ):
        stream.write("source,target\n")
        for pair in zip(source, target, strict=True):
            stream.write(",".join('"' + text.rstrip("\n").replace('"', '""') + '"' for text in pair) + "\n")
    for file in files:
        file.unlink()
    return table


def measure(stage: str, settings: list[str], cache: Path) -> dict[str, float]:
    """One stage in this process: figures by name."""
    from seq2seq.config import load_config
    from seq2seq.data.batches import Cursor, TrainingBatches
    from seq2seq.data.order import Mixture
    from seq2seq.data.prepare import prepare

    config = load_config([], settings)
    started = time.perf_counter()
    prepared = prepare(config.data, config.tokenizer, cache=cache)
    seconds = time.perf_counter() - started
    if stage == "prepare":
        folder = cache / prepared.record["fingerprint"]
        disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return {
            "prepare_seconds": seconds,
            "pairs_per_second": prepared.record["counts"]["read"] / seconds,
            "disk": disk / 1e6,
        }
    started = time.perf_counter()
    size = config.training.batch_size
    data = TrainingBatches(
        prepared.train,
        batch_size=4096 if size == "auto" else size,
        batch_type=config.training.batch_type,
        seed=1,
        num_workers=config.training.num_workers,
        mixture=Mixture.of(prepared.record["corpora"]),
    )
    reading = data.epoch(Cursor(1, pool=data.mixture.pools // 2, batch=3))
    next(reading)
    first, tokens, last = time.perf_counter(), 0, time.perf_counter()
    for number, (batch, _) in enumerate(reading, start=1):
        tokens, last = tokens + batch.tokens, time.perf_counter()
        if number == READ_BATCHES:
            break
    return {
        "open_seconds": seconds,
        "resume_seconds": first - started,
        "target_tokens_per_second": tokens / (last - first),
    }


def run_stage(stage: str, settings: list[str], cache: Path) -> tuple[dict[str, float], float]:
    """The figures of a stage and its peak of anonymous memory, MB."""
    command = [sys.executable, __file__, "-", "-", "--stage", stage, "--folder", str(cache), *settings]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0.0
    while child.poll() is None:
        peak = max(peak, anonymous_memory(child.pid))
        time.sleep(0.05)
    assert child.stdout is not None
    output = child.stdout.read()
    if child.returncode:
        raise SystemExit(f"{stage} failed")
    return json.loads(output), peak


def anonymous_memory(process: int) -> float:
    """RssAnon of a process and all below it, MB; 0 for what has just ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text().split("\n")
        children = [
            int(child)
            for task in Path(f"/proc/{process}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    own = sum(int(line.split()[1]) / 1000 for line in status if line.startswith("RssAnon"))
    return own + sum(map(anonymous_memory, children))


def by_line(sizes: list[int], values: list[float], size: int) -> float:
    """Value at another size of the straight line through the two largest."""
    (x0, x1), (y0, y1) = sizes[-2:], values[-2:]
    return max(0.0, y1 + (y1 - y0) / (x1 - x0) * (size - x1))


def print_table(rows: dict[int, dict[str, float]]) -> None:
    """Measured sizes, then the straight lines."""
    names = list(COLUMNS)
    print("| pairs | " + " | ".join(COLUMNS[name][0] for name in names) + " |")
    print("|" + "---:|" * (len(names) + 1))
    sizes = sorted(rows)

    def line(label: str, figures: dict[str, float]) -> None:
        print(f"| {label} | " + " | ".join(COLUMNS[name][1].format(figures[name]) for name in names) + " |")

    for size in sizes:
        line(f"{size:,}", rows[size])
    for size, label in WORLD.items() if len(sizes) > 1 else ():
        figures = {name: by_line(sizes, [rows[known][name] for known in sizes], size) for name in names}
        figures["pairs_per_second"] = size / figures["prepare_seconds"]
        figures["target_tokens_per_second"] = rows[sizes[-1]]["target_tokens_per_second"]
        line(label, figures)


def main() -> None:
    """Parse, measure every size, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--pairs", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where the corpora are made, about 800 bytes a pair")
    parser.add_argument("--csv", action="store_true", help="one CSV table instead of two text files")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options, settings = parser.parse_known_args()
    if options.stage:
        print(json.dumps(measure(options.stage, settings, options.folder)))
        return
    rows: dict[int, dict[str, Any]] = {}
    for pairs in sorted(options.pairs):
        folder = Path(tempfile.mkdtemp(prefix="seq2seq-scale-", dir=options.folder))
        try:
            made = make_corpus([Path(options.source), Path(options.target)], pairs, folder)
            corpus = f"source: {made[0]}, target: {made[1]}"
            if options.csv:
                made = [as_csv(made)]
                corpus = f"csv: {made[0]}, source: source, target: target"
            size = sum(file.stat().st_size for file in made) / 1e6
            chosen = [f"data.train=[{{{corpus}}}]", *SETTINGS, *settings]
            prepared, prepare_memory = run_stage("prepare", chosen, folder)
            read, read_memory = run_stage("read", chosen, folder)
            rows[pairs] = {
                "corpus": size,
                **prepared,
                **read,
                "prepare_memory": prepare_memory,
                "read_memory": read_memory,
            }
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print_table(rows)


if __name__ == "__main__":
    main()
