"""From files to stores: pairs stay paired, the cache is whole or absent, and nothing is kept in memory."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seq2seq.config.settings import CleaningSettings, DataSettings, TokenizerSettings
from seq2seq.config.sources import JsonlSource, TextSource
from seq2seq.data import cache as cache_module
from seq2seq.data import prepare as prepare_module
from seq2seq.data import raw_pairs as raw
from seq2seq.data import tokenized_pairs
from seq2seq.data.cache import Inputs, read_entry
from seq2seq.data.cleaning import CleaningReport
from seq2seq.data.hold_out import hold_out
from seq2seq.data.pipes import spool_pipes, spool_sources
from seq2seq.data.prepare import Prepared, prepare
from seq2seq.data.raw_pairs import RawText
from seq2seq.data.store import Store, StoreWriter
from seq2seq.errors import ConfigError, DataError, ResourceError, UsageError, WorkerError
from seq2seq.tokenizers.pair import train_tokenizers

WORD = TokenizerSettings(kind="word")
TRAIN = [(f"source {n} text", f"ziel {n} text") for n in range(50)]


def corpus(folder: Path, pairs: list[tuple[str, str]], name: str = "train") -> TextSource:
    for side, suffix in ((0, "s"), (1, "t")):
        (folder / f"{name}.{suffix}").write_bytes("".join(pair[side] + "\n" for pair in pairs).encode())
    return TextSource(source=str(folder / f"{name}.s"), target=str(folder / f"{name}.t"))


def run(folder: Path, data: DataSettings, tokenizer: TokenizerSettings = WORD, **more) -> Prepared:
    return prepare(data, tokenizer, cache=folder / "cache", **more)


def texts(prepared: Prepared, store: Store | None = None) -> list[tuple[str, str]]:
    store = prepared.train if store is None else store
    sources, targets = store.rows(range(len(store)))
    return list(
        zip(
            prepared.tokenizers.source.decode(sources),
            prepared.tokenizers.target.decode(targets),
            strict=True,
        )
    )


@pytest.mark.fault(32)
def test_pairs_stay_paired_whatever_is_dropped(tmp_path: Path) -> None:
    """One blank on one side shifted all later pairs in JoeyNMT."""
    bad = [
        ("", "leer"),
        ("blank", " \u00a0"),
        ("\u200b", "x"),
        ("nul\0", "x"),
        TRAIN[3],
        ("long " * 30, "x"),
        ("a " * 11, "b"),
    ]
    mixed = [pair for n, good in enumerate(TRAIN) for pair in ([good, bad[n]] if n < len(bad) else [good])]
    cleaning = CleaningSettings(max_tokens=20, min_tokens=1)
    prepared = run(tmp_path, DataSettings(train=(corpus(tmp_path, mixed),), cleaning=cleaning))
    assert texts(prepared) == TRAIN
    counts = prepared.report.as_dict()
    assert counts == {
        "read": 57,
        "kept": 50,
        "unreadable": 0,
        "empty": 2,
        "invisible": 2,
        "duplicate": 1,
        "held_out": 0,
        "held_out_source": 0,
        "overlap": 0,
        "too_short": 0,
        "too_long": 1,
        "ratio": 1,
        "copies": 0,
        "shared_source": 0,
    }
    assert prepared.record["counts"] | counts == prepared.record["counts"]
    assert prepared.record["tokens"] == {"source": 150, "target": 150}
    assert prepared.valid is None
    assert json.loads(json.dumps(prepared.record)) == prepared.record


def test_duplicates_against_a_dictionary(tmp_path: Path) -> None:
    pairs = [(f"s {n % 7}", f"t {n % 3}") for n in range(100)]
    kept = run(tmp_path, DataSettings(train=(corpus(tmp_path, pairs[:60], "a"), corpus(tmp_path, pairs[60:], "b"))))
    assert texts(kept) == list(dict.fromkeys(pairs))
    cleaning = CleaningSettings(drop_duplicates=False)
    assert texts(run(tmp_path, DataSettings(train=(corpus(tmp_path, pairs),), cleaning=cleaning))) == pairs


@pytest.mark.fault(38)
def test_held_out_text_is_never_cleaned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """eole dropped blank references and blank sources independently when scoring."""
    held = [("", "leer"), TRAIN[0], TRAIN[0], ("source", ""), ("text " * 400, "text")]
    data = DataSettings(
        train=(corpus(tmp_path, TRAIN),),
        valid=(corpus(tmp_path, held, "v"),),
        test=(corpus(tmp_path, held, "w"),),
    )
    prepared = run(tmp_path, data)
    assert prepared.valid_pairs == prepared.test_pairs == held
    assert prepared.valid is not None
    assert len(prepared.valid) == 3
    assert prepared.record["overlap"] == {"valid": 2, "test": 2}
    assert capsys.readouterr().err.count("2 of 5") == 2


@pytest.mark.fault(38)
def test_overlap_is_counted_by_side_and_dropped_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """528 pairs of a real test set were in training, and 726 of its sources, of which nothing was said."""
    (one, same), (two, _), (_, third), *_ = TRAIN
    test = [(one, same), (two, "another translation"), ("another source", third), ("new", "neu")]
    valid = [(two, "once more"), (one, "once more")]
    settings = {"train": (corpus(tmp_path, TRAIN),), "test": (corpus(tmp_path, test, "t"),)}
    settings["valid"] = (corpus(tmp_path, valid, "v"),)
    prepared = run(tmp_path, DataSettings(**settings))
    assert prepared.record["shared_sides"] == {"valid": {"source": 2, "target": 0}, "test": {"source": 2, "target": 2}}
    said = capsys.readouterr().err
    assert "every source of the valid set also occurs in training: 0 of 2 valid pairs" in said
    assert "1 of 4 test pairs are also training pairs, 2 sources and 2 targets also occur in training" in said
    dropped = run(tmp_path, DataSettings(**settings, cleaning=CleaningSettings(drop_test_overlap=True)))
    assert len(dropped.train) == len(prepared.train) - 3
    assert dropped.report.overlap == 3
    assert "which flatters" not in capsys.readouterr().err


def test_no_training_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no training data"):
        run(tmp_path, DataSettings())


@pytest.mark.fault(36)
def test_a_line_of_a_megabyte_is_dropped_and_counted(tmp_path: Path) -> None:
    pairs = [*TRAIN, ("x" * 1_000_000, "lang"), ("end", "Ende")]
    prepared = run(tmp_path, DataSettings(train=(corpus(tmp_path, pairs),)), TokenizerSettings(vocabulary_size=400))
    assert prepared.report.too_long == 1
    assert texts(prepared) == [*TRAIN, ("end", "Ende")]


def test_the_second_call_reads_the_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = DataSettings(train=(corpus(tmp_path, TRAIN),), valid=(corpus(tmp_path, TRAIN[:2], "v"),))
    first = run(tmp_path, data)
    capsys.readouterr()
    second = run(tmp_path, data.model_copy(update={"num_processes": 1}))
    assert "using prepared data" in capsys.readouterr().err
    assert (texts(second), second.record, second.report) == (texts(first), first.record, first.report)
    assert second.tokenizers.fingerprint == first.tokenizers.fingerprint


@pytest.mark.fault(39)
def test_what_changed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another size, another content of the same size, another setting: each rebuilds and says why."""
    data = DataSettings(train=(corpus(tmp_path, TRAIN),))
    run(tmp_path, data)
    capsys.readouterr()
    corpus(tmp_path, [("Source 0 text", "ziel 0 text"), *TRAIN[1:]])
    assert texts(run(tmp_path, data))[0] == ("Source 0 text", "ziel 0 text")
    assert "rebuilding: data.train.0.files.0.sha256 changed" in capsys.readouterr().err
    run(tmp_path, data.model_copy(update={"cleaning": CleaningSettings(max_tokens=9)}))
    assert "rebuilding: data.cleaning.max_tokens changed" in capsys.readouterr().err
    run(tmp_path, data, TokenizerSettings(kind="char"))
    assert "tokenizer.kind" in capsys.readouterr().err


@pytest.mark.fault(39)
def test_a_damaged_entry_is_rebuilt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = DataSettings(train=(corpus(tmp_path, TRAIN),), valid=(corpus(tmp_path, TRAIN[:2], "v"),))
    folder = tmp_path / "cache" / run(tmp_path, data).record["fingerprint"]
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size):
        content = path.read_bytes()
        path.write_bytes(content[:-3])
        capsys.readouterr()
        assert texts(run(tmp_path, data)) == TRAIN
        assert "rebuilding" in capsys.readouterr().err
        path.unlink()
        assert texts(run(tmp_path, data)) == TRAIN


def test_given_tokenizers_are_kept(tmp_path: Path) -> None:
    pair = train_tokenizers(TokenizerSettings(kind="char"), lambda: iter(TRAIN), 1)
    prepared = run(tmp_path, DataSettings(train=(corpus(tmp_path, TRAIN),)), tokenizers=pair)
    assert prepared.tokenizers.fingerprint == pair.fingerprint
    assert texts(prepared) == TRAIN


def test_many_processes_store_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(f"a{n % 83} b{n} c", f"d{n}") for n in range(1000)] + [("a0 b0 c", "d0"), ("", "x")]
    monkeypatch.setattr(tokenized_pairs, "PARALLEL_PAIRS", 10)
    monkeypatch.setattr(tokenized_pairs, "_PARALLEL_SLICE_ROWS", 600)
    settings = TokenizerSettings(vocabulary_size=400)
    source = corpus(tmp_path, pairs)
    alone = prepare(DataSettings(train=(source,), num_processes=1), settings, cache=tmp_path / "one")
    helped = prepare(DataSettings(train=(source,), num_processes=2), settings, cache=tmp_path / "two")
    assert texts(alone) == texts(helped) == pairs[:1000]
    assert alone.report == helped.report


def die(rows: object, tokenizers: object, noise: object) -> None:
    os._exit(9)


def test_a_dead_encoder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenized_pairs, "PARALLEL_PAIRS", 10)
    monkeypatch.setattr(tokenized_pairs, "_encode_rows", die)
    with pytest.raises(WorkerError, match="num_processes=1"):
        run(tmp_path, DataSettings(train=(corpus(tmp_path, TRAIN),), num_processes=2))


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(StoreWriter, "write", full)
    with pytest.raises(ResourceError, match="disk is full"):
        run(tmp_path, DataSettings(train=(corpus(tmp_path, TRAIN),)))
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_corpus_larger_than_memory_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than one block of text is alive at once, from the reader to the disk."""
    alive, most = 0, 0

    class Text(str):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def endless() -> Iterator[tuple[str, str]]:
        nonlocal alive, most
        for number in range(5_000):
            alive += 2
            most = max(most, alive)
            yield Text(f"source {number}"), Text(f"target {number}")

    monkeypatch.setattr(raw, "READ_ROWS", 100)
    report = CleaningReport()
    text = RawText.write(tmp_path, [endless()], report)
    assert len(text) == report.read == 5_000
    assert most <= 2 * 2 * 101
    assert next(text.pairs()) == ("source 0", "target 0")
    assert text._data.cache_files[0]["filename"] == str(tmp_path / "raw.arrow")
    assert isinstance(text.hashes, np.memmap)
    assert isinstance(text._kept, np.memmap)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcdef")), min_size=1, max_size=40),
    held=st.integers(0, 5),
)
def test_portions_find_what_a_dictionary_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: list[tuple[str, str]], held: int
) -> None:
    """Duplicates and held-out pairs on disk, looked at seven rows at a time."""
    monkeypatch.setattr(raw, "_SCANNED", 7)
    report = CleaningReport()
    text = RawText.write(tmp_path, [pairs[:10], pairs[10:]], report)
    assert text.sizes == (len(pairs[:10]), len(pairs[10:]))
    text.drop_duplicates(report)
    first = list(dict.fromkeys(pairs))
    assert list(text.pairs()) == first
    assert report.duplicate == len(pairs) - len(first)
    held = min(held, len(first))
    taken = hold_out(text, held, 1)
    assert len(taken) == held == len(set(taken))
    assert sorted([*taken, *text.pairs()]) == sorted(first)
    assert len(text) == len(first) - held


def test_the_hint_for_too_many_held_out_pairs_works(tmp_path: Path) -> None:
    """`data.holdout=1` of one pair was answered with the hint `data.holdout=1`."""
    for pairs in (1, 2, 3, 7, 50):
        source, valid = corpus(tmp_path, TRAIN[:pairs]), corpus(tmp_path, TRAIN[:1], "v")
        for held in ((), (valid,)):
            data = DataSettings(train=(source,), valid=held, holdout=100)
            with pytest.raises(DataError, match=f"100 pairs cannot be held out of {pairs}") as error:
                run(tmp_path, data)
            hint = re.search(r"data\.holdout=(\d+)$", str(error.value.hint))
            assert hint is not None
            prepared = run(tmp_path, data.model_copy(update={"holdout": int(hint[1])}))
            assert len(prepared.test_pairs) == int(hint[1])


def test_the_seed_of_the_data(tmp_path: Path) -> None:
    """`seed` decided the split, so that two seeds could be neither compared nor used as an ensemble."""
    data = DataSettings(train=(corpus(tmp_path, TRAIN),), holdout=5)
    first, same, other = (run(tmp_path, data.model_copy(update={"seed": seed})) for seed in (1, 1, 2))
    assert first.record == same.record
    assert first.test_pairs != other.test_pairs
    assert first.record["fingerprint"] != other.record["fingerprint"]


def test_pipes_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`<(zcat a.gz)` was hashed to its end, and then read as an empty corpus."""
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path / "cache"))
    ends: list[int] = []

    def pipe(side: int) -> str:
        ends.extend(os.pipe())
        with os.fdopen(ends.pop(), "w") as end:
            end.write("".join(pair[side] + "\n" for pair in TRAIN))
        return f"/dev/fd/{ends[-1]}"

    copies = []
    for _ in range(2):
        data = DataSettings(train=(TextSource(source=pipe(0), target=pipe(1)),))
        spooled = spool_sources(data)
        assert texts(run(tmp_path, spooled)) == TRAIN
        copies.append(spooled)
    assert copies[0] == copies[1]
    with Path(corpus(tmp_path, TRAIN).source).open() as file:
        assert spool_pipes([f"/dev/fd/{file.fileno()}", "a.en"]) == [file.name, "a.en"]
    one = pipe(0)
    assert len(set(spool_pipes([one, one]))) == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="torchrun"):
        spool_pipes([pipe(0)])
    for end in ends:
        os.close(end)


def test_corpora_are_counted_through_every_cut(tmp_path: Path) -> None:
    """Mixing needs to know where each corpus lies in the store, whatever cleaning and holding out have taken."""
    first = [(f"a{n}", f"x{n}") for n in range(40)]
    second = [*first[:10], ("", "leer"), *((f"b{n}", f"y{n}") for n in range(30)), ("far too long " * 9, "x")]
    third = [(f"c{n}", f"z{n}") for n in range(20)]
    train = tuple(corpus(tmp_path, pairs, name) for pairs, name in ((first, "1"), (second, "2"), (third, "3")))
    prepared = run(tmp_path, DataSettings(train=train, holdout=10, cleaning=CleaningSettings(max_tokens=20)))
    names = [source[0] for source, _ in texts(prepared)]
    assert prepared.record["corpora"] == [names.count(name) for name in "abc"]
    assert sum(prepared.record["corpora"]) == len(prepared.train) == 70
    assert names == sorted(names)


def test_a_held_out_sentence_is_trained_on_in_no_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a corpus with two target languages, 32 of 36 held-out sentences were trained on with the other language."""
    monkeypatch.setattr(raw, "_SCANNED", 7)
    monkeypatch.setattr(raw, "READ_ROWS", 9)
    french = [(source, f"texte {n}") for n, (source, _) in enumerate(TRAIN)]
    again = [(source, f"noch {n}") for n, (source, _) in enumerate(TRAIN[:20])]  # untagged
    train = (
        corpus(tmp_path, TRAIN, "de").model_copy(update={"target_tag": "de"}),
        corpus(tmp_path, french, "fr").model_copy(update={"target_tag": "fr"}),
        corpus(tmp_path, again, "again"),
    )
    prepared = run(tmp_path, DataSettings(train=train, holdout=8))
    held = [[source.split("> ")[-1] for source, _ in part] for part in (prepared.valid_pairs, prepared.test_pairs)]
    assert [len(part) for part in held] == [8, 8]
    trained = [source.split("> ")[-1] for source, _ in texts(prepared)]
    whole = [source for source, _ in [*TRAIN, *french, *again]]
    assert trained == [source for source in whole if source not in {*held[0], *held[1]}]
    report = prepared.report
    assert (report.held_out, report.shared_source) == (16, 0)
    assert report.held_out_source == len(whole) - len(trained) - 16 > 8
    assert report.read == report.kept + report.held_out + report.held_out_source
    assert ("source of a held-out pair", str(report.held_out_source)) in report.rows()


def test_a_source_that_is_a_label_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where names are drawn for a language, every pair has the source of a held-out one: nothing would be left."""
    pairs = [("Finnish" if n % 2 else "Polish", f"name {n}") for n in range(60)]
    data = DataSettings(train=(corpus(tmp_path, pairs),), holdout=6)
    for _ in range(2):  # also told when the prepared data are found again
        prepared = run(tmp_path, data)
        assert len(prepared.train) == 48
        assert (prepared.report.shared_source, prepared.report.held_out_source) == (48, 0)
        assert "48 training pairs have the source text of a held-out pair" in capsys.readouterr().err


def test_weights_do_not_rebuild_but_tags_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = corpus(tmp_path, TRAIN)
    run(tmp_path, DataSettings(train=(source,)))
    capsys.readouterr()
    run(tmp_path, DataSettings(train=(source.model_copy(update={"weight": 3.0}),), temperature=5.0))
    assert "using prepared data" in capsys.readouterr().err
    for key, value in (("target_tag", "de"), ("tag", "BT")):
        run(tmp_path, DataSettings(train=(source.model_copy(update={key: value}),)))
        assert f"data.train.0.settings.{key}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("train", "valid", "said"),
    [
        (["de", "fr"], ["de", "fr"], ""),
        ([None], [None], ""),
        (["de", "fr"], ["de", None], "data.valid: a corpus has no target_tag"),
        (["de", "fr"], ["es"], "data.valid: no training corpus has the target_tag es; they have de, fr"),
        (["de", None], ["de", None], "some training corpora have no target_tag"),
    ],
)
def test_target_tags_that_do_not_fit_are_said(
    train: list[str | None], valid: list[str | None], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best model was chosen by text without tags, and a misspelt tag was one of the run's own."""
    source = corpus(tmp_path, TRAIN)
    splits = [tuple(source.model_copy(update={"target_tag": tag}) for tag in tags) for tags in (train, valid)]
    run(tmp_path, DataSettings(train=splits[0], valid=splits[1]))
    warnings = capsys.readouterr().err
    assert said in warnings
    assert ("target_tag" in warnings) == bool(said)


@pytest.mark.parametrize("kind", ["word", "char"])
def test_a_student_has_the_tags_of_its_text(kind: str, tmp_path: Path) -> None:
    """A student with a vocabulary of characters spelled them, and knew no target tag."""
    (tmp_path / "x.distilled").mkdir()
    learned = corpus(
        tmp_path / "x.distilled", [(f"<2de> {source}", target) for source, target in TRAIN if source.strip()]
    )
    prepared = run(tmp_path, DataSettings(train=(learned,)), TokenizerSettings(kind=kind))
    assert prepared.tokenizers.source.tags == ["<2de>"]


def test_data_prepared_before_there_were_tags_stay_valid(tmp_path: Path) -> None:
    """A run with checkpoints would be refused, since its data would not be those that it was started with."""
    assert set(Inputs(tmp_path).facts(corpus(tmp_path, TRAIN))["settings"]) == {"source", "target", "target_tag"}


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
def test_tags_are_one_token(tmp_path: Path, kind: str) -> None:
    """A tag that is spelled in letters would be cut apart by sampling, and could be dropped as a rare word."""
    de, fr = corpus(tmp_path, TRAIN), corpus(tmp_path, [*((f"source {n} text", f"texte {n}") for n in range(50))], "f")
    train = tuple(source.model_copy(update={"target_tag": tag}) for source, tag in ((de, "de"), (fr, "fr")))
    held = corpus(tmp_path, [("source 1", "ziel"), ("", "leer")], "v").model_copy(update={"target_tag": "pt-BR"})
    # Words and characters are capped so far that tags would not be among the most frequent.
    settings = TokenizerSettings(
        kind=kind, vocabulary_size={"word": 16, "char": 16}.get(kind, 400), min_frequency=2 if kind == "word" else 1
    )
    prepared = run(tmp_path, DataSettings(train=train, valid=(held,)), settings)
    tokenizer = prepared.tokenizers.source
    assert tokenizer.tags == ["<2de>", "<2fr>", "<2pt-BR>"]
    (row,) = tokenizer.encode(["<2pt-BR> source 1"])
    pieces = tokenizer.pieces(row)
    assert [piece for piece in pieces if piece.startswith("<2")] == ["<2pt-BR>"]
    assert prepared.valid_pairs == [("<2pt-BR> source 1", "ziel"), ("", "leer")]
    sources, _ = prepared.train.rows(range(len(prepared.train)))
    tags = [[piece for piece in tokenizer.pieces(row) if piece in tokenizer.tags] for row in sources]
    assert tags == [["<2de>"]] * 50 + [["<2fr>"]] * 50
    assert prepared.record["corpora"] == [50, 50]
    if kind in ("unigram", "bpe"):
        assert [text for text, _ in texts(prepared)][50] == "<2fr> source 0 text"


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word", "wordpunct"])
def test_a_corpus_tag_is_one_token_of_training_alone(tmp_path: Path, kind: str) -> None:
    """Held-out pairs of back-translated text would measure how well the model imitates the other one."""
    genuine = corpus(tmp_path, TRAIN, "genuine").model_copy(update={"target_tag": "de"})
    synthetic = [(f"backward {n} text", f"ziel {n} zurück") for n in range(50)]
    tagged = corpus(tmp_path, synthetic, "synthetic").model_copy(update={"target_tag": "de", "tag": "BT"})
    settings = TokenizerSettings(kind=kind, vocabulary_size={"char": 40, "word": 140}.get(kind, 400))
    prepared = run(tmp_path, DataSettings(train=(genuine, tagged), holdout=10), settings)
    assert prepared.record["corpora"] == [30, 50]
    assert not any("<BT>" in source for source, _ in [*prepared.valid_pairs, *prepared.test_pairs])
    tokenizer = prepared.tokenizers.source
    assert (tokenizer.tags, tokenizer.corpus_tags) == (["<2de>"], ["<BT>"])
    sources, _ = prepared.train.rows(range(80))
    rows = [[piece for piece in tokenizer.pieces(row) if piece in ("<2de>", "<BT>")] for row in sources]
    assert rows == [["<2de>"]] * 30 + [["<2de>", "<BT>"]] * 50
    (plain,) = tokenizer.encode(["<2de> source 1 text"])
    assert "<BT>" not in tokenizer.pieces(plain)


def test_all_pairs_that_may_be_held_out_are_counted(tmp_path: Path) -> None:
    tagged = corpus(tmp_path, [(f"back {n}", f"ziel {n}") for n in range(90)], "bt").model_copy(update={"tag": "BT"})
    with pytest.raises(DataError, match="30 pairs cannot be held out of 50"):
        run(tmp_path, DataSettings(train=(corpus(tmp_path, TRAIN), tagged), holdout=30))


def test_a_tag_hides_neither_a_held_out_source_nor_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "_SCANNED", 7)
    monkeypatch.setattr(raw, "READ_ROWS", 9)
    again = [(source, f"noch {n}") for n, (source, _) in enumerate(TRAIN)]
    copies = [(f"kopie {n}", f"kopie {n}") for n in range(40)]
    train = (
        corpus(tmp_path, again, "again").model_copy(update={"tag": "BT"}),
        corpus(tmp_path, TRAIN, "genuine"),
        corpus(tmp_path, copies, "copies").model_copy(update={"tag": "COPY"}),
    )
    prepared = run(tmp_path, DataSettings(train=train, holdout=5))
    held = {source for source, _ in [*prepared.valid_pairs, *prepared.test_pairs]}
    assert len(held) == 10
    assert held <= {source for source, _ in TRAIN}
    assert (prepared.report.held_out_source, prepared.report.copies) == (10, 40)
    trained = {source.removeprefix("<BT> ") for source, _ in texts(prepared)}
    assert not held & trained


def test_tags_that_a_given_tokenizer_takes_apart(tmp_path: Path) -> None:
    pair = train_tokenizers(TokenizerSettings(kind="char"), lambda: iter(TRAIN), 1)
    source = corpus(tmp_path, TRAIN).model_copy(update={"target_tag": "de"})
    with pytest.raises(ConfigError, match="<2de> as one token"):
        run(tmp_path, DataSettings(train=(source,)), tokenizers=pair)


def test_two_makers_of_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process finishes the same entry first: its result is used."""
    data = DataSettings(train=(corpus(tmp_path, TRAIN),))
    build = prepare_module._build
    calls = 0

    def slow(*arguments) -> None:
        nonlocal calls
        build(*arguments)
        calls += 1
        if calls == 1:
            with monkeypatch.context() as other:
                other.setattr(os, "getpid", lambda: os.getppid())
                run(tmp_path, data)

    monkeypatch.setattr(prepare_module, "_build", slow)
    assert texts(run(tmp_path, data)) == TRAIN


def test_json_and_text_give_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"s": s, "t": t}) + "\n" for s, t in TRAIN))
    source = JsonlSource(jsonl=str(tmp_path / "a.jsonl"), source="s", target="t")
    assert texts(run(tmp_path, DataSettings(train=(source,)))) == TRAIN


def test_multi30k(tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """29,000 pairs, three of them repeated; every kept text comes back, each TAB and U+00A0 as a space."""
    folder = shared_data / "multi30k"

    def split(name: str) -> TextSource:
        return TextSource(source=str(folder / f"{name}.en"), target=str(folder / f"{name}.de"))

    data = DataSettings(train=(split("train"),), valid=(split("val"),), test=(split("test_2016_flickr"),))
    prepared = run(tmp_path, data, TokenizerSettings(vocabulary_size=4000, sample_size=4000))
    sides = [(folder / f"train.{language}").read_bytes().decode().split("\n")[:-1] for language in ("en", "de")]
    expected = list(dict.fromkeys(zip(*sides, strict=True)))
    assert prepared.report.duplicate == 3
    assert any("\t" in target for _, target in expected)
    assert texts(prepared) == [(" ".join(source.split()), " ".join(target.split())) for source, target in expected]
    assert (len(prepared.valid_pairs), len(prepared.test_pairs)) == (1014, 1000)
    assert int(prepared.train.source_lengths.sum()) == prepared.record["tokens"]["source"]
    assert prepared.tokenizers.source.size == 4000
    capsys.readouterr()
    assert len(run(tmp_path, data, TokenizerSettings(vocabulary_size=4000, sample_size=4000)).train) == 28_997
    assert "using prepared data" in capsys.readouterr().err
    assert np.array_equal(prepared.train.rows([7000])[0][0], prepared.tokenizers.source.encode([expected[7000][0]])[0])


def test_records_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """Prepared data stay valid: a record without indentation, with the hash of its sorted entries."""
    facts = {"sha256": {}, "counts": {"Größe": 2}, "a": None}
    check = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    (tmp_path / "record.json").write_text(json.dumps({**facts, "check": check}), encoding="ascii")
    assert read_entry(tmp_path) == facts


@pytest.mark.fault(55)
def test_one_bit_of_a_record_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flipped bit in `counts` ended every later call with exit 3, and others in internal errors."""
    data = DataSettings(train=(corpus(tmp_path, TRAIN),), valid=(corpus(tmp_path, TRAIN[:2], "v"),))
    monkeypatch.setattr(cache_module, "_FRESH_SECONDS", -10.0)
    first = run(tmp_path, data)
    folder = tmp_path / "cache" / first.record["fingerprint"]
    readers = {
        folder / "record.json": lambda: read_entry(folder),
        tmp_path / "cache" / "inputs.json": lambda: Inputs(tmp_path / "cache")._known or None,
    }
    for path, read in readers.items():
        expected, content = read(), bytearray(path.read_bytes())
        with monkeypatch.context() as flipped:
            flipped.setattr(Path, "read_bytes", lambda path: bytes(content))  # noqa: B023
            for place in range(len(content)):
                content[place] ^= 1 << place % 8
                assert read() is None, place
                content[place] ^= 1 << place % 8
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        again = run(tmp_path, data)
        assert (texts(again), again.record, again.report) == (texts(first), first.record, first.report)
        assert read() == expected


@pytest.mark.fault(55)
def test_two_trainings_remember_their_inputs_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both wrote one temporary file, and the slower one died because the other had renamed it."""
    source = corpus(tmp_path, TRAIN)
    (tmp_path / "cache").mkdir()
    replace = Path.replace

    def slow(path: Path, target: Path) -> Path:
        with monkeypatch.context() as other:
            other.setattr(Path, "replace", replace)
            other.setattr(os, "getpid", lambda: 1)
            faster = Inputs(tmp_path / "cache")
            faster.facts(source)
            faster.save()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", slow)
    inputs = Inputs(tmp_path / "cache")
    inputs.facts(source)
    inputs.save()
    assert names_in(tmp_path / "cache") == ["inputs.json"]
    assert len(Inputs(tmp_path / "cache")._known) == 2


@pytest.mark.fault(55)
def test_two_trainings_find_one_damaged_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one removed what the faster one had just rebuilt and begun to read."""
    data = DataSettings(train=(corpus(tmp_path, TRAIN),))
    folder = tmp_path / "cache" / run(tmp_path, data).record["fingerprint"]
    (folder / "record.json").write_text("{}")
    build = prepare_module._build

    def slow(*arguments) -> None:
        build(*arguments)
        with monkeypatch.context() as other:
            other.setattr(prepare_module, "_build", build)
            other.setattr(os, "getpid", lambda: 1)
            run(tmp_path, data)
        inodes.append(folder.stat().st_ino)

    inodes: list[int] = []
    monkeypatch.setattr(prepare_module, "_build", slow)
    assert texts(run(tmp_path, data)) == TRAIN
    assert inodes == [folder.stat().st_ino]
    assert names_in(tmp_path / "cache") == [".lock", folder.name, "inputs.json"]


@pytest.mark.fault(55)
def test_a_warm_cache_may_be_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataSettings(train=(corpus(tmp_path, TRAIN),))
    run(tmp_path, data)
    (tmp_path / "cache" / "inputs.json").unlink()

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("write_text", "replace", "rename", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    assert texts(run(tmp_path, data)) == TRAIN
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UsageError, match="SEQ2SEQ_CACHE"):
        run(tmp_path, data, TokenizerSettings(kind="char"))


def test_an_edit_with_size_and_time_restored_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_FRESH_SECONDS", -10.0)
    data = DataSettings(train=(source := corpus(tmp_path, TRAIN),))
    run(tmp_path, data)
    times = Path(source.source).stat()
    corpus(tmp_path, [("Source 0 text", "ziel 0 text"), *TRAIN[1:]])
    os.utime(source.source, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert texts(run(tmp_path, data))[0] == ("Source 0 text", "ziel 0 text")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
