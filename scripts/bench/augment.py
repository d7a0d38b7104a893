"""Quality on text as people type it, with and without training on noisy copies (`data.augment`).

    python scripts/bench/augment.py data/multi30k -o runs/plain
    python scripts/bench/augment.py data/multi30k -o runs/augmented --augment true --baseline runs/plain

Each command trains configs/multi30k-en-de.yaml on train, val and test_2016_flickr (.en, .de) of the folder, or goes on
with a run that was stopped, translates the test set in several forms, and prints Markdown. Both runs take equally many
updates, so the augmented one reads each pair less often (28 times in place of 33). `--pairs` and `--steps` shorten it.

Forms of the test set: as it is, and what `data.augment` makes of all of its sources: capitals, initial capitals, small
letters, no full stop, typing errors. References stay as they are, but lose their full stop where the source does.

* BLEU: cased, for the test set as it is, small letters, initial capitals and typing errors; for capitals the references
  are in capitals, too.
* caseless: BLEU of hypotheses and references both in capitals, so that `ß` and `SS` are equal; next to it its share of
  the caseless BLEU of the same run on the test set as it is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seq2seq.config import Config

    Texts = list[str]
    Scores = dict[str, dict[str, float]]

_CONFIG = Path(__file__).resolve().parents[2] / "configs" / "multi30k-en-de.yaml"
_SPLITS = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
_RESULT = "augment.json"
_WARMUP, _VALIDATE_EVERY = 500, 200


def config_of(folder: Path, output: Path, arguments: argparse.Namespace) -> Config:
    """The config of one training."""
    from seq2seq.config import load_config

    settings = [f"run_directory={output}", f"data.augment={arguments.augment}", f"threads={arguments.threads}"]
    for split, name in _SPLITS.items():
        files = [folder / f"{name}.{language}" for language in ("en", "de")]
        if arguments.pairs:
            files = [_head(file, output, arguments.pairs) for file in files]
        settings.append(f"data.{split}=[{{source: {files[0]}, target: {files[1]}}}]")
    if steps := arguments.steps:
        settings += [f"training.max_steps={steps}", f"training.validate_every={min(_VALIDATE_EVERY, steps)}"]
        settings += [f"training.schedule.warmup_steps={min(_WARMUP, steps // 4)}"]
    return load_config([_CONFIG], ["devices=1", *settings, *arguments.settings])


def _head(file: Path, output: Path, lines: int) -> Path:
    """The first lines of a file, beside the run."""
    part = output.with_name(f"{output.name}-text") / file.name
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:lines]))
    return part


def forms(sources: Texts, references: Texts) -> dict[str, tuple[Texts, Texts]]:
    """Sources and references of each form of the test set."""
    from seq2seq.data import augment
    from seq2seq.letter_case import lowercase, titlecase, uppercase

    bare = [
        pair if pair[0] != source and pair[1] != reference else (source, reference)
        for source, reference in zip(sources, references, strict=True)
        if (pair := (augment.without_full_stop(source), augment.without_full_stop(reference)))
    ]
    return {
        "as it is": (sources, references),
        "capitals": ([uppercase(text) for text in sources], [uppercase(text) for text in references]),
        "initial capitals": ([titlecase(text) for text in sources], references),
        "small letters": ([lowercase(text) for text in sources], references),
        "no full stop": ([source for source, _ in bare], [reference for _, reference in bare]),
        "typing errors": ([augment.misspell(text, seed=2) for text in sources], references),
    }


def measure(output: Path, threads: int) -> tuple[Scores, str]:
    """BLEU and caseless BLEU of each form, and the signature."""
    from seq2seq import load
    from seq2seq.evaluation.metrics import bleu

    run = load(output, threads=threads)
    sources, references = map(list, zip(*run.directory.load_pairs("test"), strict=True))
    found: Scores = {}
    signature = ""
    for form, (texts, expected) in forms(sources, references).items():
        hypotheses = run.translate(texts)
        print(f"{form}: {texts[0]} -> {hypotheses[0]}")
        score = bleu(hypotheses, expected, target_language="de")
        capitals = [[text.upper() for text in side] for side in (hypotheses, expected)]
        found[form] = {"bleu": score.value, "caseless": bleu(*capitals, target_language="de").value}
        signature = score.signature
    return found, signature


def table(runs: dict[str, Scores]) -> str:
    """Markdown: a row for each form, three columns for each run."""
    head = "| test set | " + " | ".join(f"{name}: BLEU | caseless | of its own" for name in runs) + " |"
    lines = [head, "|---" * (1 + 3 * len(runs)) + "|"]
    for form in next(iter(runs.values())):
        cells = []
        for scores in runs.values():
            own, caseless = scores["as it is"]["caseless"], scores[form]["caseless"]
            cells += [f"{scores[form]['bleu']:.2f}", f"{caseless:.2f}", f"{caseless / own:.1%}" if own else ""]
        lines.append(f"| {form} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="train, val and test_2016_flickr, .en and .de")
    parser.add_argument("-o", "--output", type=Path, required=True, help="run directory")
    parser.add_argument("--augment", default="false", help="value of data.augment, such as true or {uppercase: 0.1}")
    parser.add_argument("--baseline", type=Path, action="append", default=[], help="another measured run")
    parser.add_argument("--steps", type=int, default=0, help="updates; those of the config by default")
    parser.add_argument("--pairs", type=int, default=0, help="the first lines of each file alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("settings", nargs="*", help="further settings, key=value")
    arguments = parser.parse_intermixed_args()

    from seq2seq.runs.train import train

    result = train(config_of(arguments.folder.resolve(), arguments.output.resolve(), arguments))
    scores, signature = measure(arguments.output, arguments.threads)
    (arguments.output / _RESULT).write_text(json.dumps(scores, indent=1), encoding="utf-8")
    known = {path.name: json.loads((path / _RESULT).read_text(encoding="utf-8")) for path in arguments.baseline}
    print(f"\n{result.steps:,} updates, {result.minutes:.1f} minutes\n")
    print(table({**known, arguments.output.name: scores}))
    print(f"\n{signature}")


if __name__ == "__main__":
    main()
