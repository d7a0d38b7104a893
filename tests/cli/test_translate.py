"""`seq2seq translate`: every option through the command line, kills and interruptions."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest

from seq2seq import load
from seq2seq.cli.options import RerankWeight
from seq2seq.config.settings import DataSettings
from seq2seq.decoding.reranking import WEIGHT
from seq2seq.decoding.workers import can_fork
from tests.children import Child, is_gone
from tests.cli.conftest import Outcome, Runner, run_command, train_tiny

TEXT = ["The old man drinks a cup of tea.", "", "I am here.", "The man is old. I am here!"]
STDIN = "".join(line + "\n" for line in TEXT).encode()


def rows(outcome: Outcome) -> list[str]:
    assert outcome.code == 0, outcome.err
    assert outcome.out.endswith("\n")
    return outcome.out.split("\n")[:-1]


def test_every_setting_of_the_machine_gives_the_same(transformer: Path, seq2seq: Runner) -> None:
    base = rows(seq2seq("translate", transformer, stdin=STDIN))
    assert [bool(text) for text in base] == [bool(line) for line in TEXT]
    for options in (("--workers", 2), ("--workers", 1), ("--precision", "fp32"), ("--batch-size", 1)):
        assert rows(seq2seq("translate", transformer, *options, stdin=STDIN)) == base
    assert (
        rows(seq2seq("translate", transformer, "--ensemble", transformer, "--ensemble", transformer, stdin=STDIN))
        == base
    )


def test_lengths_are_kept(transformer: Path, seq2seq: Runner) -> None:
    outcome = seq2seq("translate", transformer, "--max-length", 2, "--json", "--token-scores", stdin=STDIN)
    entries = [json.loads(row)["translations"][0] for row in rows(outcome)]
    assert all(len(entry["pieces"]) <= 2 for entry in entries)
    assert any(entry.get("cut") for entry in entries)
    assert "translations reached the length limit" in outcome.err
    outcome = seq2seq("translate", transformer, "--min-length-ratio", 1.1, "--json", "--token-scores", stdin=STDIN)
    source = load(transformer).translator.tokenizers.source
    for line, row in zip(TEXT, rows(outcome), strict=True):
        assert len(json.loads(row)["translations"][0]["pieces"]) >= int(1.1 * len(source.encode([line])[0]))


def test_token_scores_sum_to_the_score_of_the_pair(run: Path, seq2seq: Runner, tmp_path: Path) -> None:
    (tmp_path / "prefixes").write_text("Der alte Mann\n\nIch bin\nDer Mann\n")
    options = ("--json", "--token-scores", "--n-best", 2, "--prefix", tmp_path / "prefixes", "--max-length", 8)
    outcome = seq2seq("translate", run, *options, stdin=STDIN)
    parsed = [json.loads(row) for row in rows(outcome)]
    assert [entry["line"] for entry in parsed] == [1, 2, 3, 4]
    best = [entry["translations"][0] for entry in parsed if entry["translations"][0]["text"]]
    for entry in best:
        assert len(entry["token_scores"]) == len(entry["pieces"]) + 1
        assert sum(entry["token_scores"]) == pytest.approx(entry["log_probability"], abs=1e-5)
    (tmp_path / "a.en").write_text("".join(line + "\n" for line in TEXT if line))
    (tmp_path / "a.de").write_text("".join(entry["text"] + "\n" for entry in best))
    files = ("--source", tmp_path / "a.en", "--target", tmp_path / "a.de")
    scored = [json.loads(row) for row in rows(seq2seq("score", run, *files, "--json"))]
    again = load(run).translator.tokenizers.target
    compared = 0
    for entry, score in zip(best, scored, strict=True):
        if again.pieces(again.encode([entry["text"]])[0]) == entry["pieces"]:  # the same tokens, not another split
            assert score["log_probability"] == pytest.approx(entry["log_probability"], abs=1e-4)
            assert score["score"] == pytest.approx(entry["score"], abs=1e-4)
            compared += 1
    assert compared
    with_tokens = [json.loads(row) for row in rows(seq2seq("score", run, *files, "--json", "--token-scores"))]
    for score, detail in zip(scored, with_tokens, strict=True):
        assert {key: detail[key] for key in score} == score
        assert len(detail["token_scores"]) == len(detail["pieces"]) + 1 == score["length"]
        assert sum(detail["token_scores"]) == pytest.approx(score["log_probability"], abs=1e-9)
    assert seq2seq("score", run, *files, "--token-scores").code == 2
    normalized = rows(seq2seq("score", run, *files, "--normalized"))
    assert [float(row) for row in normalized] == pytest.approx([score["score"] for score in scored], abs=1e-3)
    assert seq2seq("score", run, *files, "--length-penalty", 1).code == 2


def test_prefixes(run: Path, seq2seq: Runner, tmp_path: Path) -> None:
    prefixes = tmp_path / "prefixes"
    prefixes.write_text("Der alte Mann\nnichts\n\nIch bin\n")
    outcome = rows(seq2seq("translate", run, "--prefix", prefixes, stdin=STDIN))
    plain = rows(seq2seq("translate", run, stdin=STDIN))
    assert outcome[0].startswith("Der alte Mann")
    assert outcome[1] == ""
    assert outcome[2] == plain[2]
    assert outcome[3].startswith("Ich bin")
    for content, place in (("a\nb\n", "stdin:3"), ("\n" * 5, "prefixes:5")):
        prefixes.write_text(content)
        failed = seq2seq("translate", run, "--prefix", prefixes, stdin=STDIN)
        assert failed.code == 3
        assert place in failed.err
    assert seq2seq("translate", run, "--prefix", tmp_path / "none", stdin=STDIN).code == 3


def test_glossary(run: Path, seq2seq: Runner, tmp_path: Path) -> None:
    glossary = tmp_path / "glossary.tsv"
    glossary.write_text("old man\tGreis\ntea\tKräutertee\nhere\tvor Ort\n")
    outcome = rows(seq2seq("translate", run, "--glossary", glossary, stdin=STDIN))
    assert "Greis" in outcome[0]
    assert "Kräutertee" in outcome[0]
    assert "vor Ort" in outcome[2]
    assert outcome[1] == ""
    glossary.write_text("old man\tGreis\nno tab here\n")
    failed = seq2seq("translate", run, "--glossary", glossary, stdin=STDIN)
    assert failed.code == 3
    assert "glossary.tsv:2" in failed.err
    assert seq2seq("translate", run, "--glossary", tmp_path / "none", stdin=STDIN).code == 3


def test_hard_wrapped_lines_are_translated_as_paragraphs(transformer: Path, seq2seq: Runner) -> None:
    """Each half of a sentence was translated as if it were a whole one."""
    whole = b"The old man drinks tea.\n\n\nThe man is old. I am here.\n"
    wrapped = b"The old man\n drinks tea.\n\n\nThe man is\r\nold.\nI am here.\n"
    expected = seq2seq("translate", transformer, "--paragraphs", stdin=whole)
    assert rows(seq2seq("translate", transformer, "--wrapped", stdin=wrapped)) == rows(expected)
    assert seq2seq("translate", transformer, "--wrapped", "--resume", "-o", "x", stdin=wrapped).code == 2


def test_paragraphs_keep_blank_lines(transformer: Path, seq2seq: Runner) -> None:
    sentences = ["The old man drinks a cup of tea.", "I am here.", "The man is old.", "I am here!"]
    alone = rows(seq2seq("translate", transformer, stdin="".join(line + "\n" for line in sentences).encode()))
    expected = [alone[0], "", alone[1], f"{alone[2]} {alone[3]}"]
    assert rows(seq2seq("translate", transformer, "--paragraphs", stdin=STDIN)) == expected


def test_samples_and_diverse_lists(transformer: Path, seq2seq: Runner) -> None:
    def mbr(*options: object) -> list[str]:
        return rows(seq2seq("translate", transformer, "--mbr", 8, "--temperature", 0.8, *options, stdin=STDIN))

    assert mbr() == mbr("--workers", 2)
    assert len(mbr("--mbr-utility", "bleu")) == 4
    diverse = rows(seq2seq("translate", transformer, "--n-best", 3, "--diversity", 2.0, stdin=STDIN))
    assert len(diverse) == 12
    assert len(set(diverse[:3])) == 3


def test_alignments(run: Path, seq2seq: Runner, tmp_path: Path) -> None:
    prefixes = tmp_path / "prefixes"
    prefixes.write_text("Der alte Mann\n\nIch bin\nDer Mann\n")
    plain = rows(seq2seq("translate", run, "--prefix", prefixes, stdin=STDIN))
    options = ("--alignments", "--prefix", prefixes)
    aligned = [row.split(" ||| ") for row in rows(seq2seq("translate", run, *options, stdin=STDIN))]
    assert [row[0] for row in aligned] == plain
    for line, (text, links) in zip(TEXT, aligned, strict=True):
        pairs = [tuple(map(int, link.split("-"))) for link in links.split()]
        assert bool(pairs) == bool(text.strip())
        assert all(source < len(line.split()) and target < len(text.split()) for source, target in pairs)
    parsed = rows(seq2seq("translate", run, *options, "--json", stdin=STDIN))
    assert [json.loads(row)["translations"][0]["alignment"] for row in parsed] == [row[1] for row in aligned]


def test_unknown_words_are_for_vocabularies_of_words(transformer: Path, seq2seq: Runner) -> None:
    outcome = seq2seq("translate", transformer, "--replace-unknown", stdin=STDIN)
    assert outcome.code == 2
    assert "subwords" in outcome.err


def test_unknown_words_are_copied(corpus: Path, seq2seq: Runner, tmp_path: Path) -> None:
    # So few words that most of the output is unknown.
    words = ("tokenizer.kind=word", "tokenizer.vocabulary_size=24", "tokenizer.joint=false")
    assert train_tiny(corpus, "gru", tmp_path / "run", *words, "model.tied_embeddings=none").code == 0
    plain = rows(seq2seq("translate", tmp_path / "run", stdin=STDIN))
    assert "⁇" in "".join(plain)
    copied = rows(seq2seq("translate", tmp_path / "run", "--replace-unknown", stdin=STDIN))
    assert "⁇" not in "".join(copied)
    for line, before, after in zip(TEXT, plain, copied, strict=True):
        for old, new in zip(before.split(), after.split(), strict=True):
            assert new == old or (old == "⁇" and new in line)


def test_special_files_are_written_through(transformer: Path, seq2seq: Runner, tmp_path: Path) -> None:
    """-o /dev/null once renamed a file over the device."""
    assert seq2seq("translate", transformer, "-o", "/dev/null", stdin=STDIN).code == 0
    assert Path("/dev/null").is_char_device()
    outcome = seq2seq("translate", transformer, "-o", tmp_path, stdin=STDIN)
    assert outcome.code == 2
    assert "is a folder" in outcome.err


# From here on: windows of up to 9,216 lines, mostly blank, so that several windows take little time.
WINDOW = 1024 + 8192


@pytest.fixture(scope="module")
def long_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "input.en"
    lines = [TEXT[place // 2048 % 4] if place % 2048 == 0 else "" for place in range(4 * WINDOW + 100)]
    path.write_text("".join(line + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def expected(long_text: Path, transformer: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("whole") / "out.de"
    assert run_command("translate", transformer, long_text, "-o", output).code == 0
    return output.read_bytes()


@contextmanager
def halted(folder: Path, run: Path, text: Path, *options: str) -> Iterator[Child]:
    """A translation to `out.de` that has stopped itself before it records its third window."""
    halt = {"SEQ2SEQ_FAILPOINTS": "output.record=stop@3"}
    log = folder.with_name(f"{folder.name}.log")
    arguments = ("translate", run, text, "-o", folder / "out.de", *options)
    with Child(*arguments, folder=log, environment=halt) as child:
        child.wait_until_stopped()
        yield child


@pytest.fixture(scope="module")
def killed(transformer: Path, long_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a translation leaves that was killed after two windows."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "out.de").write_text("the old one\n")
    with halted(folder, transformer, long_text) as child:
        child.send(signal.SIGKILL)
        assert child.end().code == -signal.SIGKILL
    assert (folder / "out.de").read_text() == "the old one\n"
    (folder / "out.de").unlink()
    assert {".partial-out.de", ".partial-out.de.json"} <= {path.name for path in folder.iterdir()}
    return folder


@pytest.fixture
def left(killed: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return Path(shutil.copytree(killed, tmp_path / "left"))


def recorded(folder: Path) -> tuple[int, int]:
    """Lines and bytes that the record of an unfinished `out.de` holds."""
    entry = json.loads((folder / ".partial-out.de.json").read_text().splitlines()[-1])["entry"]
    return int(entry[0]), int(entry[1])


@pytest.mark.fault(47)
def test_resume_after_a_kill_gives_the_same_bytes(
    left: Path, transformer: Path, long_text: Path, expected: bytes, seq2seq: Runner
) -> None:
    lines, size = recorded(left)
    assert 0 < lines < long_text.read_bytes().count(b"\n")
    assert size <= (left / ".partial-out.de").stat().st_size
    outcome = seq2seq("translate", transformer, long_text, "-o", left / "out.de", "--resume")
    assert outcome.code == 0, outcome.err
    assert f"{lines:,} lines of" in outcome.err
    assert (left / "out.de").read_bytes() == expected
    assert [path.name for path in left.iterdir()] == ["out.de"]


def test_torn_last_lines_are_written_again(
    left: Path, transformer: Path, long_text: Path, expected: bytes, seq2seq: Runner
) -> None:
    with (left / ".partial-out.de").open("ab") as file:
        file.write(b"half a li")
    assert seq2seq("translate", transformer, long_text, "-o", left / "out.de", "--resume").code == 0
    assert (left / "out.de").read_bytes() == expected


def test_without_resume_a_leftover_is_replaced(
    left: Path, transformer: Path, long_text: Path, expected: bytes, seq2seq: Runner
) -> None:
    outcome = seq2seq("translate", transformer, long_text, "-o", left / "out.de")
    assert outcome.code == 0
    assert "was left by an interrupted translation" in outcome.err
    assert (left / "out.de").read_bytes() == expected
    assert [path.name for path in left.iterdir()] == ["out.de"]


def test_resume_refuses_what_is_not_the_same(
    left: Path, transformer: Path, long_text: Path, seq2seq: Runner, tmp_path: Path
) -> None:
    output = ("-o", left / "out.de", "--resume")
    os.truncate(left / ".partial-out.de", recorded(left)[1])  # lines that are not recorded are written again
    before = {path.name: path.read_bytes() for path in left.iterdir()}
    outcome = seq2seq("translate", transformer, long_text, *output, "--beam-size", 2)
    assert outcome.code == 2
    assert "beam_size: not given -> 2" in outcome.err
    other = tmp_path / "other.en"
    other.write_bytes(long_text.read_bytes().replace(b"tea", b"wine", 1))
    outcome = seq2seq("translate", transformer, other, *output)
    assert outcome.code == 3
    assert "not those that were translated" in outcome.err
    other.write_text("short\n")
    outcome = seq2seq("translate", transformer, other, *output)
    assert outcome.code == 3
    assert "the input has 1 line," in outcome.err
    assert {path.name: path.read_bytes() for path in left.iterdir()} == before


def test_resume_with_nothing_left(transformer: Path, seq2seq: Runner, tmp_path: Path) -> None:
    outcome = seq2seq("translate", transformer, "-o", tmp_path / "out.de", "--resume", stdin=STDIN)
    assert outcome.code == 0
    assert "nothing to resume" in outcome.err
    assert len((tmp_path / "out.de").read_text().split("\n")) == 5


def test_resume_of_a_finished_file_does_nothing(transformer: Path, seq2seq: Runner, tmp_path: Path) -> None:
    (tmp_path / "out.de").write_text("as it was\n")
    outcome = seq2seq("translate", transformer, "-o", tmp_path / "out.de", "--resume", stdin=STDIN)
    assert outcome.code == 0
    assert "is complete and kept" in outcome.err
    assert (tmp_path / "out.de").read_text() == "as it was\n"
    (tmp_path / "in.en").write_bytes(STDIN)
    (tmp_path / "out.de").chmod(0o640)
    outcome = seq2seq("translate", transformer, tmp_path / "in.en", "-o", tmp_path / "out.de", "--resume")
    assert outcome.code == 3  # it was replaced: the translation of another text was lost
    assert "is complete with 1 line, but" in outcome.err
    assert (tmp_path / "out.de").read_text() == "as it was\n"
    assert seq2seq("translate", transformer, tmp_path / "in.en", "-o", tmp_path / "out.de").code == 0
    assert (tmp_path / "out.de").read_text().count("\n") == 4
    assert (tmp_path / "out.de").stat().st_mode & 0o777 == 0o640  # the permissions of the old file were lost
    (tmp_path / "out.de").write_text("as\n\nit\nwas\n")
    outcome = seq2seq("translate", transformer, tmp_path / "in.en", "-o", tmp_path / "out.de", "--resume", "-b", 2)
    assert outcome.code == 0
    assert "whatever its input and options were" in outcome.err  # nothing recorded them: that is what can be said
    assert (tmp_path / "out.de").read_text() == "as\n\nit\nwas\n"


@pytest.mark.parametrize("name", ["out.gz", "out.de.XZ", "out.bz2", "out.zst"])
def test_an_output_with_the_name_of_compressed_text_is_refused(
    name: str, transformer: Path, seq2seq: Runner, tmp_path: Path
) -> None:
    """Plain text was written there, which the tool refused to read."""
    outcome = seq2seq("translate", transformer, "-o", tmp_path / name, stdin=STDIN)
    assert outcome.code == 2
    assert f"choose {tmp_path / name[: name.rindex('.')]} with -o and compress it afterwards" in outcome.err
    assert not list(tmp_path.iterdir())


def test_the_input_is_never_the_output(transformer: Path, seq2seq: Runner, tmp_path: Path) -> None:
    """A slip of the fingers once replaced a user's text by its translation."""
    text = tmp_path / "text.en"
    text.write_bytes(STDIN)
    (tmp_path / "link").symlink_to(text)
    for output in (text, tmp_path / "link"):
        outcome = seq2seq("translate", transformer, text, "-o", output)
        assert outcome.code == 2
        assert "is the input" in outcome.err
    assert seq2seq("translate", transformer, "--prefix", text, "-o", text, stdin=STDIN).code == 2
    assert seq2seq("translate", transformer, "--glossary", text, "-o", text, stdin=STDIN).code == 2
    assert text.read_bytes() == STDIN


def test_no_command_writes_over_what_it_reads(transformer: Path, seq2seq: Runner, tmp_path: Path) -> None:
    """`evaluate -o` and `align -o` replaced the references by the translations or links, and nothing was said."""
    texts = [tmp_path / "a.en", tmp_path / "a.de"]
    for text in texts:
        text.write_bytes(STDIN)
    given = ("-s", texts[0], "-r", texts[1]), ("-s", texts[0], "-t", texts[1])
    for name, files in zip(("evaluate", "align"), given, strict=True):
        for text in texts:
            outcome = seq2seq(name, transformer, *files, "-o", text)
            assert (outcome.code, outcome.out) == (2, "")
            assert f"{text} is the input" in outcome.err
            assert text.read_bytes() == STDIN
        outcome = seq2seq(name, transformer, *files, "-o", tmp_path)
        assert outcome.code == 2
        assert "is a folder" in outcome.err
    outcome = seq2seq("evaluate", transformer, "--hypotheses", texts[0], "-r", texts[1])
    assert outcome.code == 2
    assert "--hypotheses and a run exclude each other" in outcome.err
    same = seq2seq("evaluate", "--hypotheses", texts[0], "-r", texts[0])
    assert same.code == 0
    assert "is compared with itself" in same.err


def test_a_wider_beam_than_the_run_s_is_told(transformer: Path, seq2seq: Runner) -> None:
    outcome = seq2seq("translate", transformer, "--n-best", 7, stdin=STDIN)
    assert outcome.code == 0
    assert "the beam is widened from the run's 5 to 7 for --n-best 7" in outcome.err
    for options in (("--n-best", 5), ("--n-best", 7, "--sample"), ("--n-best", 7, "-b", 8), ("--n-best", 7, "-q")):
        assert "widened" not in seq2seq("translate", transformer, *options, stdin=STDIN).err


def test_fewer_outputs_than_wanted_are_told(transformer: Path, seq2seq: Runner) -> None:
    wanted = ("--n-best", "4", "--beam-size", "4", "--diversity", "0.0001")
    outcome = seq2seq("translate", transformer, *wanted, stdin=STDIN)
    assert outcome.code == 0
    assert "fewer than 4 different translations; blank lines stand for the others" in outcome.err


def test_what_is_not_there_has_no_score(transformer: Path, seq2seq: Runner) -> None:
    """Where translations were wanting, blank ones stood with the score 0: better than any that there was."""
    wanted = ("--n-best", "4", "--beam-size", "4", "--diversity", "0.0001")
    outcome = seq2seq("translate", transformer, *wanted, "--scores", stdin=STDIN)
    scored = [row.split("\t") for row in rows(outcome)]
    assert len(scored) == 4 * len(TEXT)
    listed = [
        json.loads(row)["translations"]
        for row in rows(seq2seq("translate", transformer, *wanted, "--json", stdin=STDIN))
    ]
    blank = 0
    for place, found in enumerate(listed):
        group = scored[4 * place : 4 * place + 4]
        scores = [-math.inf if item["score"] is None else item["score"] for item in found]
        expected = [(f"{score:.4f}", item["text"]) for score, item in zip(scores, found, strict=True)]
        expected += [("-inf", "")] * (4 - len(found))
        assert [tuple(row) for row in group] == expected
        blank += 4 - len(found)
    assert blank
    assert "blank lines of score -inf stand for the others" in outcome.err


def test_two_processes_do_not_write_one_file(transformer: Path, seq2seq: Runner, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / ".partial-out.de").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        outcome = seq2seq("translate", transformer, "-o", tmp_path / "out.de", stdin=STDIN)
    assert outcome.code == 2
    assert "another process is writing" in outcome.err


@pytest.mark.skipif(not can_fork(), reason="forks on Linux only")
def test_a_dead_worker_ends_the_translation(transformer: Path, long_text: Path, tmp_path: Path) -> None:
    with halted(tmp_path, transformer, long_text, "--workers", "2") as child:
        worker = child.children()[0]
        os.kill(worker, signal.SIGKILL)
        child.wait_for(lambda: is_gone(worker))
        child.send(signal.SIGCONT)
        outcome = child.end()
    assert outcome.code == 8, outcome.err
    assert "error: worker" in outcome.err
    assert "was killed by SIGKILL" in outcome.err
    assert "--resume" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.skipif(not can_fork(), reason="forks on Linux only")
@pytest.mark.fault(47)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(
    number: signal.Signals, transformer: Path, long_text: Path, tmp_path: Path, expected: bytes, seq2seq: Runner
) -> None:
    """With -q, as in a job over night, nothing told that it had been stopped, nor that its lines were kept."""
    folder = tmp_path / "output"
    folder.mkdir()
    with halted(folder, transformer, long_text, "--workers", "2", "-q") as child:
        workers = child.children()
        child.send(number, group=number == signal.SIGINT)  # a terminal sends Ctrl-C to the whole group
        child.send(signal.SIGCONT)
        outcome = child.end()
    kept, _ = recorded(folder)
    assert outcome.code == 128 + number, outcome.err
    told = f"stopped by {number.name}, {kept:,} lines are kept; the same command with --resume goes on from there\n"
    assert outcome.err == told
    assert len(workers) == 2
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert seq2seq("translate", transformer, long_text, "-o", folder / "out.de", "--resume").code == 0
    assert (folder / "out.de").read_bytes() == expected


def test_endless_input_and_a_reader_that_leaves(transformer: Path) -> None:
    command = f"{sys.executable} -m seq2seq translate {transformer} --workers 2 -b 1 --max-length 2"
    line = f"while :; do echo I am here.; echo; echo; echo; done 2>/dev/null | {command} | head -n 1025 | tail -n 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1  # the 1025th line came, and the endless command ended
    assert "Traceback" not in done.stderr


def test_a_shortlist_is_learned_once(
    seq2seq: Runner, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    config = copy / "config.yaml"
    given = config.read_text(encoding="utf-8")
    config.write_text(given.replace("corpus.en", "moved.en"), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setenv("SEQ2SEQ_CACHE", str(tmp_path / "cache"))  # without the data that the training prepared
        missing = seq2seq("translate", copy, "--shortlist", stdin=STDIN)
    assert missing.code == 3
    assert "use --shortlist once where the training text is" in missing.err
    config.write_text(given, encoding="utf-8")
    first = seq2seq("translate", copy, "--shortlist", stdin=STDIN)
    assert len(rows(first)) == len(TEXT)
    assert "learning the shortlist" in first.err
    config.write_text(given.replace("corpus.en", "moved.en"), encoding="utf-8")
    again = seq2seq("translate", copy, "--shortlist", stdin=STDIN)
    assert (again.out, "learning" in again.err) == (first.out, False)
    compared = seq2seq("evaluate", copy, "--shortlist", "--baseline", run, "--json")
    assert compared.code == 0
    assert "BLEU" in compared.out


def test_pairs_are_scored_some_at_a_time(
    seq2seq: Runner, transformer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.en").write_text("I am here.\n" * 4 + "I am here. " * 40 + "\n", encoding="utf-8")
    (tmp_path / "a.de").write_text("Ich bin hier.\n" * 5, encoding="utf-8")
    command = ("score", transformer, "-s", tmp_path / "a.en", "-t", tmp_path / "a.de", "--json")
    together = [json.loads(row) for row in rows(seq2seq(*command))]
    monkeypatch.setattr("seq2seq.decoding.workers.Parallelism.scored_pairs", 2)
    apart = [json.loads(row) for row in rows(seq2seq(*command))]
    assert [row["line"] for row in apart] == [1, 2, 3, 4, 5]
    for one, other in zip(apart, together, strict=True):
        assert one == {key: pytest.approx(value, abs=1e-4) for key, value in other.items()}


def test_a_shortlist_without_the_text_of_an_earlier_run_is_not_kept(
    seq2seq: Runner, transformer: Path, tmp_path: Path
) -> None:
    copy, config = shutil.copytree(transformer, tmp_path / "run"), tmp_path / "run" / "config.yaml"
    text = config.read_text(encoding="utf-8")
    assert "\n  init_from: null" in text
    config.write_text(text.replace("\n  init_from: null", f"\n  init_from: {tmp_path / 'gone'}"), encoding="utf-8")
    outcome = seq2seq("translate", copy, "--shortlist", stdin=STDIN)
    assert len(rows(outcome)) == len(TEXT)
    assert "gone, and is learned again next time" in outcome.err
    assert not (copy / "shortlist.npz").exists()
    config.write_text(text.replace("\n  init_from: null", f"\n  init_from: {transformer}"), encoding="utf-8")
    assert rows(seq2seq("translate", copy, "--shortlist", stdin=STDIN))
    assert (copy / "shortlist.npz").exists()


@pytest.mark.int8
def test_int8_is_offered_wherever_a_run_translates(
    seq2seq: Runner, transformer: Path, long_text: Path, tmp_path: Path, left: Path
) -> None:
    """As many lines, mostly those of fp32; a file that was begun in fp32 is not continued in int8."""
    exact, rough = (
        rows(seq2seq("translate", transformer, "--precision", precision, stdin=STDIN)) for precision in ("fp32", "int8")
    )
    assert [bool(line) for line in rough] == [bool(line) for line in exact]
    assert sum(one == other for one, other in zip(rough, exact, strict=True)) >= len(exact) / 2
    resumed = seq2seq("translate", transformer, long_text, "-o", left / "out.de", "--resume", "--precision", "int8")
    assert resumed.code == 2
    assert "precision: not given -> int8" in resumed.err
    compared = seq2seq("evaluate", transformer, "--precision", "int8", "--baseline", transformer)
    assert compared.code == 0, compared.err
    assert "beam 5, int8, score" in compared.err
    text = tmp_path / "in.de"
    text.write_bytes(STDIN)
    command = ("backtranslate", transformer, text, "-o", tmp_path / "made")
    seq2seq(*command, "--precision", "int8")
    again = seq2seq(*command, "--resume")
    assert again.code == 2
    assert "precision: int8 -> not given" in again.err


def test_a_run_of_the_opposite_direction_reranks(
    seq2seq: Runner, transformer: Path, gru: Path, long_text: Path, left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = seq2seq("translate", transformer, "--rerank", gru, stdin=STDIN)
    assert refused.code == 2
    assert "hint: a run from de to en" in refused.err
    monkeypatch.setattr(DataSettings, "languages", ("", ""))
    monkeypatch.setattr("seq2seq.runs.loaded_run.translates_forward", lambda *_: None)
    plain = rows(seq2seq("translate", transformer, "--n-best", 5, stdin=STDIN))
    command = ("translate", transformer, "--rerank", gru, "--rerank-weight", 3)
    reranked = rows(seq2seq(*command, stdin=STDIN))
    assert len(reranked) == len(TEXT)
    assert all(text in plain[5 * row : 5 * row + 5] for row, text in enumerate(reranked))
    assert reranked != plain[::5]
    assert rows(seq2seq(*command, "--workers", 2, "--batch-size", 1, stdin=STDIN)) == reranked
    resumed = seq2seq(*command, long_text, "-o", left / "out.de", "--resume")
    assert resumed.code == 2
    assert "rerank_weight: not given -> 3.0" in resumed.err
    compared = seq2seq("evaluate", transformer, "--rerank", gru, "--baseline", transformer)
    assert compared.code == 0, compared.err
    assert f"reranked by {gru}" in compared.err


def test_the_weight_of_reranking_is_that_of_the_library() -> None:
    (option,) = get_args(RerankWeight)[1:]
    assert f"[default: {WEIGHT}]" in option.help
