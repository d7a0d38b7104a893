"""The main job through the command line: raw text in, a translator and a score out, line for line."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from seq2seq import load
from seq2seq.checks.diagnosis import Diagnosis
from seq2seq.config.presets import PRESETS
from seq2seq.data.batches import collate
from tests.cli.conftest import Outcome, Runner, checkpoint_of, train_tiny

SACREBLEU = ["BLEU", "BLEU lowercased", "chrF", "TER"]
ODD_LINES = [
    "",
    " ",
    "a",
    "The old man drinks a cup of tea.",
    "word " * 80,
    "🙂🙃🙂",
    "שלום עולם",
    "one\u2028line",
    "next\u0085line",
    "nul\x00byte",
    "tab\tseparated\ttext",
    "\u200b",
    "carriage\rreturn",
    "form\x0cfeed",
    "…" * 30,
    "ÄÖÜäöüß",
    "\u00a0nbsp\u00a0",
    "漢字かな交じり文",
    "-" * 100,
    "<s> </s> <pad> <unk> ▁",
]


def result_lines(outcome: Outcome) -> list[str]:
    assert outcome.code == 0, outcome.err
    assert outcome.out == "" or outcome.out.endswith("\n")
    return outcome.out.split("\n")[:-1]


def test_training_leaves_a_complete_run(run: Path) -> None:
    expected = {
        "config.yaml",
        "tokenizer",
        "data.json",
        "env.json",
        "checkpoints",
        "metrics.jsonl",
        "train.log",
        "report.html",
    }
    assert expected | {"tensorboard", "validation", "results.json", "test.hyp"} <= {path.name for path in run.iterdir()}
    results = json.loads((run / "results.json").read_text())
    assert results["test"]["sentences"] == 20
    assert [metric["name"] for metric in results["test"]["metrics"]] == [*SACREBLEU, "exact match"]
    assert all("version:" in metric["signature"] for metric in results["test"]["metrics"][:4])
    assert results["test"]["decoding"]["beam_size"] == 5
    assert (checkpoint_of(run, "best") / "manifest.json").exists()
    config = YAML(typ="safe", pure=True).load(run / "config.yaml")
    assert config["data"]["source_language"] == "en"


def test_the_same_command_again_only_prints_the_result(gru: Path, corpus: Path, seq2seq: Runner) -> None:
    before = (gru / "results.json").read_bytes()
    outcome = train_tiny(corpus, "gru", gru)
    assert outcome.code == 0
    assert "is finished" in outcome.err
    assert "BLEU" in outcome.out
    assert (gru / "results.json").read_bytes() == before


def test_a_finished_run_completes_its_report(transformer: Path, corpus: Path, tmp_path: Path) -> None:
    """A kill during the last write of all, that of the report, left its partial file, and the report of before."""
    folder = Path(shutil.copytree(transformer, tmp_path / "run", symlinks=True))
    report, partial = folder / "report.html", folder / ".partial-report.html"
    partial.write_text("<html>", encoding="utf-8")
    report.unlink()
    assert train_tiny(corpus, "transformer", folder).code == 0
    assert not partial.exists()
    assert report.read_text(encoding="utf-8").endswith("</html>\n")
    report.write_text("old", encoding="utf-8")
    os.utime(report, (1, 1))  # of the last validation
    assert train_tiny(corpus, "transformer", folder).code == 0
    assert report.read_text(encoding="utf-8") != "old"


def test_a_finished_run_tells_what_it_does_not_use(gru: Path, corpus: Path, tmp_path: Path) -> None:
    """More steps for a finished run were passed over in silence, and its config then told of steps it never made."""
    copy = tmp_path / "copy"
    shutil.copytree(gru, copy, symlinks=True)
    before = content(copy)
    more = ("training.max_steps=70", "training.validate_every=10", "training.num_workers=1")
    refused = train_tiny(corpus, "gru", copy, *more)
    assert refused.code == 2  # validate_every is another matter
    more = ("training.max_steps=70", "training.num_workers=1", "decoding.beam_size=2")
    for _ in range(2):
        outcome = train_tiny(corpus, "gru", copy, *more)
        assert outcome.code == 0
        (told,) = [line for line in outcome.err.split("\n") if "not used" in line]
        assert "not used: training.max_steps: 60 -> 70; decoding.beam_size: 5 -> 2 (" in told
        assert f"remove {copy / 'results.json'}" in told
        assert f"training.init_from={copy}" in told
        assert content(copy) == before
    assert "not used" not in train_tiny(corpus, "gru", copy, "training.num_workers=1").err

    (copy / "results.json").unlink()  # the first way that it tells of
    outcome = train_tiny(corpus, "gru", copy, "training.max_steps=70", "decoding.beam_size=1")
    assert outcome.code == 0, outcome.err
    assert "resuming from step 60" in outcome.err
    assert "70 steps in" in outcome.err
    assert json.loads((copy / "results.json").read_text())["steps"] == 70
    # The second.
    tuned = train_tiny(
        corpus,
        "gru",
        tmp_path / "tuned",
        f"training.init_from={copy}",
        "training.max_steps=1",
        "training.schedule.warmup_steps=0",
        "decoding.beam_size=1",
    )
    assert tuned.code == 0, tuned.err


def content(folder: Path) -> dict[str, bytes]:
    """What a run has learned and scored, and the settings of it."""
    files = [folder / name for name in ("config.yaml", "results.json", "test.hyp", "metrics.jsonl")]
    return {file.name: file.read_bytes() for file in [*files, checkpoint_of(folder, "last") / "model.safetensors"]}


@pytest.mark.fault(21)
def test_other_settings_in_the_same_directory_are_refused(gru: Path, corpus: Path) -> None:
    before = {path: path.read_bytes() for path in gru.glob("*") if path.is_file() and path.name != ".lock"}
    outcome = train_tiny(corpus, "gru", gru, "model.dropout=0.4")
    assert outcome.code == 2
    assert re.search(r"model\.dropout: 0\.[23] -> 0\.4", outcome.err)
    assert "Traceback" not in outcome.err
    assert all(path.read_bytes() == content for path, content in before.items())


def test_held_out_pairs_are_never_trained_on(gru: Path, corpus: Path) -> None:
    pairs = set(
        zip((corpus / "corpus.en").read_text().split("\n"), (corpus / "corpus.de").read_text().split("\n"), strict=True)
    )
    held_out = []
    for split in ("valid", "test"):
        sides = [(gru / f"{split}.{side}").read_text().split("\n")[:-1] for side in ("source", "target")]
        held_out.append(set(zip(*sides, strict=True)))
    assert [len(part) for part in held_out] == [20, 20]
    assert not held_out[0] & held_out[1]
    assert held_out[0] | held_out[1] <= pairs
    assert json.loads((gru / "data.json").read_text())["counts"]["kept"] == 560


@pytest.mark.fault(35, 36)
def test_translate_keeps_every_line(run: Path, seq2seq: Runner) -> None:
    """Batch size and order change nothing; blank stays blank; no line is ever split or lost."""
    text = "".join(line + "\n" for line in ODD_LINES)

    def translated(text: str, *options: object) -> list[str]:
        return result_lines(seq2seq("translate", run, "--max-length", 8, "-b", 2, *options, stdin=text.encode()))

    base = translated(text)
    assert len(base) == len(ODD_LINES)
    for line, output in zip(ODD_LINES, base, strict=True):
        if not line.strip() or line == "\u200b":
            assert output == ""
    assert translated(text, "--batch-size", 3) == base
    order = list(range(len(ODD_LINES)))
    random.Random(1).shuffle(order)
    shuffled = "".join(ODD_LINES[i] + "\n" for i in order)
    assert translated(shuffled) == [base[i] for i in order]


@pytest.mark.fault(34)
def test_crlf_bom_and_a_missing_last_newline(gru: Path, seq2seq: Runner) -> None:
    plain = result_lines(seq2seq("translate", gru, stdin=b"The man is old.\nI am here.\n"))
    assert result_lines(seq2seq("translate", gru, stdin=b"\xef\xbb\xbfThe man is old.\r\nI am here.")) == plain


def test_files_n_best_scores_and_json(gru: Path, seq2seq: Runner, tmp_path: Path) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("The man is old.\n\nI am here.\n")
    assert seq2seq("translate", gru, source, "-o", output).out == ""
    best = output.read_text().split("\n")[:-1]
    assert len(best) == 3
    assert best[1] == ""

    rows = [line.split("\t") for line in result_lines(seq2seq("translate", gru, source, "--n-best", 3, "--scores"))]
    assert len(rows) == 9
    scores = [float(row[0]) for row in rows]
    assert scores[:3] == sorted(scores[:3], reverse=True)
    assert [rows[0][1], rows[6][1]] == [best[0], best[2]]

    parsed = [json.loads(line) for line in result_lines(seq2seq("translate", gru, source, "--json", "--n-best", 2))]
    assert [entry["line"] for entry in parsed] == [1, 2, 3]
    assert parsed[0]["translations"][0]["text"] == best[0]


def test_sampling_is_seeded(gru: Path, seq2seq: Runner) -> None:
    def draw(seed: int) -> list[str]:
        options = ("--sample", "--n-best", 3, "--seed", seed, "--top-k", 20)
        return result_lines(seq2seq("translate", gru, *options, stdin=b"I am here.\n"))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_evaluate_agrees_with_the_end_of_training(run: Path, seq2seq: Runner, tmp_path: Path) -> None:
    outcome = seq2seq("evaluate", run, "--json", "-o", tmp_path / "hyp")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out) == json.loads((run / "results.json").read_text())["test"]["metrics"]
    assert (tmp_path / "hyp").read_bytes() == (run / "test.hyp").read_bytes()
    again = seq2seq(
        "evaluate",
        "--hypotheses",
        tmp_path / "hyp",
        "--references",
        run / "test.target",
        "-l",
        "de",
        "--json",
    )
    assert json.loads(again.out) == json.loads(outcome.out)
    number = seq2seq("evaluate", run, "-q", "--source", run / "test.source", "--references", run / "test.target")
    assert float(number.out) == pytest.approx(json.loads(outcome.out)[0]["value"], abs=0.01)
    assert outcome.err.count("of 20 sentences is no measure") == 1
    assert "the test set is small" not in outcome.err


def test_a_finding_evaluates_the_same_text(
    gru: Path, seq2seq: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command left out --source and --references, and measured the test set."""
    commands = [f"seq2seq evaluate RUN {rest}" for rest in ("--length-penalty 1.2", "--source FILE --references FILE")]
    findings = [Diagnosis("some", "a finding", "here", command, 1.0) for command in commands]
    monkeypatch.setattr("seq2seq.reports.report.run_findings", lambda *arguments: findings)
    text = tmp_path / "a text"
    text.write_text("A dog runs.\n", encoding="utf-8")
    shown = shlex.quote(str(text))
    for options, rest in (
        (
            ("-s", text, "-r", text, text, "-b", 2),
            f" --source {shown} --references {shown} --references {shown} --beam-size 2",
        ),
        (("--split", "valid", "--checkpoint", "last"), " --split valid --checkpoint last"),
        ((), ""),
    ):
        said = seq2seq("evaluate", gru, *options).err
        assert f"\n    {commands[0]}{rest}\n" in said
        assert f"\n    {commands[1]}\n" in said


def test_score_is_the_sum_of_the_models_log_probabilities(run: Path, seq2seq: Runner) -> None:
    outcome = seq2seq("score", run, "--source", run / "test.source", "--target", run / "test.target")
    scores = [float(line) for line in result_lines(outcome)]
    loaded = load(run)
    model, tokenizers = loaded.translator.model, loaded.translator.tokenizers
    pairs = loaded.directory.load_pairs("test")
    assert len(scores) == len(pairs)
    for (source, target), score in zip(pairs, scores, strict=True):
        batch = collate(tokenizers.source.encode([source]), tokenizers.target.encode([target]))
        with torch.inference_mode():
            logits = model.output(model(batch.source, batch.target_in))
        expected = torch.log_softmax(logits, -1).gather(2, batch.target_out[..., None]).sum().item()
        assert score == pytest.approx(expected, abs=1e-3)


def test_an_ensemble_scores_by_the_mean_probability_of_each_token(
    transformer: Path, gru: Path, seq2seq: Runner
) -> None:
    files = ("-s", gru / "test.source", "-t", gru / "test.target", "--json", "--token-scores")
    alone = [seq2seq("score", run, *files) for run in (transformer, gru)]
    together = seq2seq("score", transformer, "--ensemble", gru, *files)
    first, second, both = (
        [math.exp(value) for line in result_lines(outcome) for value in json.loads(line)["token_scores"]]
        for outcome in (*alone, together)
    )
    assert first != pytest.approx(second, abs=1e-3)
    assert both == pytest.approx([(one + other) / 2 for one, other in zip(first, second, strict=True)], abs=1e-4)


def test_python_interface(run: Path) -> None:
    loaded = load(run)
    texts = ["The man is old.", "", "I am here."]
    translations = loaded.translate(texts)
    assert len(translations) == 3
    assert translations[1] == ""
    assert json.loads(json.dumps(translations)) == translations
    assert all(value < 0 for value in loaded.score([("I am here.", "Ich bin hier.")]))
    states, mask = loaded.encode(["I am here.", "The man is old."])
    assert states.shape[:2] == mask.shape
    assert states.shape[0] == 2
    assert (states[~mask] == 0).all()


@pytest.mark.parametrize("ids", [(), ("--ids",)])
def test_tokenizer_commands_round_trip(ids: tuple[str, ...], gru: Path, seq2seq: Runner) -> None:
    text = "The old man drinks tea.\n\ntwo spaces\n"
    tokens = seq2seq("tokenizer", "encode", gru, *ids, stdin=text.replace("two", "  two ").encode())
    assert seq2seq("tokenizer", "decode", gru, "--side", "source", *ids, stdin=tokens.out.encode()).out == text
    spaced = tokens.out.replace("\n", "  \n", 1).replace(" ", "  ", 1)
    assert seq2seq("tokenizer", "decode", gru, "--side", "source", *ids, stdin=spaced.encode()).out == text
    wrong = seq2seq("tokenizer", "decode", gru, *ids, stdin=b"999999\n")
    assert (wrong.code, "999999" in wrong.err) == (3, True)


def test_init_writes_a_config_that_trains(corpus: Path, seq2seq: Runner, tmp_path: Path) -> None:
    """The comment on max_steps said 30 passes of every corpus, also where the steps made hundreds of a small one."""
    config = tmp_path / "mine.yaml"
    files = ("--source", corpus / "corpus.en", "--target", corpus / "corpus.de")
    assert seq2seq("init", *files, config).code == 0
    assert seq2seq("init", *files, config).code == 2  # never overwrites
    printed = seq2seq("init", *files, "-").out
    assert "for 540 pairs" in printed  # 60 are held out
    run = tmp_path / "run"
    steps = ("training.max_steps=4", "training.schedule.warmup_steps=1")
    outcome = seq2seq("train", config, "model.hidden_size=32", "model.embedding_size=32", *steps, "-q", "-o", run)
    assert outcome.code == 0, outcome.err
    assert float(outcome.out) >= 0
    told = re.search(r"max_steps: (\d+) .*about ([\d,]+) passes over the corpus", printed)
    assert told is not None
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().split("\n")[:-1]]
    (done,) = [row for row in rows if "epoch" in row]
    passes = int(told[1]) * done["epoch"] / done["step"]
    assert passes / 1.5 < int(told[2].replace(",", "")) < passes * 1.5


def test_names_are_a_task_and_can_be_drawn(seq2seq: Runner, tmp_path: Path) -> None:
    """Character-level name -> language, and language -> name by sampling."""
    configs = Path(__file__).parents[2] / "configs"
    small = ("model.hidden_size=48", "model.embedding_size=32", "training.optimizer.learning_rate=0.01")
    steps = ("training.max_steps=40", "training.schedule.warmup_steps=5")
    outcome = seq2seq("train", configs / "names.yaml", *small, *steps, "-o", tmp_path / "names")
    assert outcome.code == 0, outcome.err
    answers = result_lines(seq2seq("translate", tmp_path / "names", tmp_path / "names" / "test.source"))
    references = (tmp_path / "names" / "test.target").read_text().split("\n")[:-1]
    right = sum(answer == reference for answer, reference in zip(answers, references, strict=True))
    assert right / len(references) > 0.2  # chance is 0.1

    few = ("training.max_steps=6", "training.schedule.warmup_steps=2")
    assert seq2seq("train", configs / "names-generate.yaml", *small, *few, "-o", tmp_path / "drawn").code == 0
    drawn = result_lines(
        seq2seq("translate", tmp_path / "drawn", "--sample", "--n-best", 8, stdin=b"Finnish\nPolish\n")
    )
    assert len(drawn) == 16
    assert len(set(drawn)) > 8


def test_demo_shows_everything(seq2seq: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = PRESETS["demo-gru"]
    training = {**preset["training"], "max_steps": 4, "validate_every": 4, "schedule": {"warmup_steps": 1}}
    decoding = {**preset["decoding"], "max_length_ratio": 0.5, "max_length_offset": 1}
    short = {"model": {**preset["model"], "hidden_size": 16}, "training": training, "decoding": decoding}
    monkeypatch.setitem(PRESETS, "demo-gru", {**preset, **short})
    outcome = seq2seq("demo", "--model", "gru", "-o", tmp_path / "demo")
    assert outcome.code == 0, outcome.err
    assert "BLEU" in outcome.out
    assert outcome.out.count("\n  > ") == 5
    assert outcome.out.rstrip().count("\n") > 15  # scores, translations, and a picture of attention


def test_a_copied_run_needs_nothing_else(
    gru: Path, seq2seq: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(gru, copy, symlinks=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path / "empty"))
    outcome = seq2seq("evaluate", "elsewhere", "--json")
    assert json.loads(outcome.out) == json.loads((gru / "results.json").read_text())["test"]["metrics"]


@pytest.mark.parametrize("name", ["demo", "multi30k-en-de", "multi30k-en-de-gru"])
def test_shipped_configs_train(
    name: str, corpus: Path, seq2seq: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they are, but for two steps; a small corpus stands for Multi30k."""
    monkeypatch.chdir(tmp_path)
    Path("data/multi30k").mkdir(parents=True)
    for side in ("en", "de"):
        lines = (corpus / f"corpus.{side}").read_text(encoding="utf-8").splitlines(keepends=True)
        for split, some in (("train", lines[:500]), ("val", lines[500:503]), ("test_2016_flickr", lines[503:506])):
            Path(f"data/multi30k/{split}.{side}").write_text("".join(some), encoding="utf-8")
    config = Path(__file__).parents[2] / "configs" / f"{name}.yaml"
    few = ("training.max_steps=2", "training.schedule.warmup_steps=1", "training.batch_size=512")
    small = ("tokenizer.vocabulary_size=400", "decoding.beam_size=1", "decoding.max_length_ratio=0.2")
    outcome = seq2seq("train", config, *few, *small, "decoding.max_length_offset=1")
    assert outcome.code == 0, outcome.err
    assert (checkpoint_of(tmp_path / "runs" / name, "best") / "manifest.json").exists()


def test_download_and_train_from_the_hub(seq2seq: Runner, tmp_path: Path) -> None:
    """A local folder stands for a dataset of the hub; `datasets` loads both the same way."""
    import datasets

    pairs = [{"translation": {"en": f"number {n}", "de": f"Nummer {n}"}} for n in range(40)]
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_list(pairs).to_parquet(str(tmp_path / "set" / "train.parquet"))
    outcome = seq2seq("data", "download", tmp_path / "set", "-s", "en", "-t", "de", "-o", tmp_path / "text")
    assert outcome.code == 0, outcome.err
    files = [Path(line) for line in result_lines(outcome)]
    assert [path.name for path in files[:2]] == ["train.en", "train.de"]
    assert files[1].read_text().split("\n")[:2] == ["Nummer 0", "Nummer 1"]

    missing = seq2seq("data", "download", tmp_path / "set", "-s", "fr", "-t", "de", "-o", tmp_path / "text")
    assert missing.code == 3
    assert "fr" in missing.err


def test_without_room_for_temporary_files_the_disk_is_named(
    seq2seq: Runner, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("seq2seq.runs.load.load", full)
    outcome = seq2seq("translate", run, stdin=b"a\n")
    assert outcome.code == 7
    assert "TMPDIR" in outcome.err
