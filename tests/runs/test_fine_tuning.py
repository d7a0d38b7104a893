"""Fine-tuning: what is taken from an earlier run, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tests.cli.conftest import checkpoint_of
from tests.parallel_text import write_pairs

from seq2seq.checkpoints.checkpoint import load_model_tensors
from seq2seq.config import Config, load_config
from seq2seq.data.demo import builtin_pairs
from seq2seq.data.prepare import Prepared, prepare
from seq2seq.errors import CheckpointError, ConfigError
from seq2seq.models import build_model
from seq2seq.runs.directory import RunDirectory
from seq2seq.runs.fine_tuning import InitialModel, check_new_text, initial_weights, load_initial_weights
from seq2seq.runs.load import load
from seq2seq.runs.train import train
from seq2seq.tokenizers.pair import TokenizerPair, train_tokenizers

TINY = [
    "model.hidden_size=16",
    "model.ff_size=32",
    "model.num_heads=2",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "tokenizer.vocabulary_size=330",
]
SHORT = [
    "threads=1",
    "device=cpu",
    "data.holdout=4",
    "training.max_steps=4",
    "training.validate_every=2",
    "training.metric=loss",
    "training.batch_size=256",
    "training.average_checkpoints=1",
    "training.schedule.warmup_steps=1",
    "decoding.max_length_ratio=1",
    "decoding.max_length_offset=1",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps."""
    folder = tmp_path_factory.mktemp("fine_tuning")
    source, target = write_pairs(folder, builtin_pairs("demo", "train")[:120])
    settings = load_config([], [*TINY, *SHORT, f"run_directory={folder / 'run'}"]).model_dump()
    settings["data"]["train"] = [{"source": str(source), "target": str(target)}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQ2SEQ_CACHE", str(folder / "cache"))
        train(Config.model_validate(settings))
    return folder / "run"


def config(*settings: str) -> Config:
    return load_config([], [*TINY, *settings])


def test_a_model_built_from_it_is_the_runs_best(run: Path) -> None:
    wanted = config("model.dropout=0.3", "model.word_dropout=0.1", "model.max_positions=77")
    initial = initial_weights(str(run), wanted)
    torch.manual_seed(7)
    vocabulary = initial.tokenizers
    model = build_model(wanted.model, vocabulary.source.size, vocabulary.target.size)
    load_model_tensors(model, initial.tensors, initial.name)
    best = load(run, device="cpu", threads=1)
    assert initial.name == str(checkpoint_of(run, "best"))
    assert vocabulary.fingerprint == best.translator.tokenizers.fingerprint
    assert initial.model == best.config.model
    theirs = dict(best.translator.model.named_parameters())
    assert all(torch.equal(parameter, theirs[name]) for name, parameter in model.named_parameters())


def test_sizes_that_are_not_given_are_those_of_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every size of the model had to be spelled out, and a preset's vocabulary size was warned of."""
    wanted = load_config([], ["preset=transformer-tiny", f"training.init_from={run}", "model.dropout=0.4"])
    initial = initial_weights(str(run), wanted)
    assert wanted.model == initial.model.model_copy(update={"dropout": 0.4})
    assert "warning" not in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"model\.hidden_size: 32, but"):
        initial_weights(str(run), load_config([], [f"training.init_from={run}", "model.hidden_size=32"]))


@pytest.mark.parametrize("name", ["step-00000002", "last", "best"])
def test_a_checkpoint_may_be_named(run: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = run / "checkpoints" / name if name.startswith("step") else checkpoint_of(run, name)
    assert initial_weights(str(run / "checkpoints" / name), config()).name == str(chosen)
    monkeypatch.chdir(run.parent)
    assert initial_weights(f"run/checkpoints/{name}/", config()).name == f"run/checkpoints/{chosen.name}"
    monkeypatch.chdir(run / "checkpoints")
    assert initial_weights(name, config()).name == str(chosen.resolve())
    assert initial_weights(str(run / "checkpoints"), config()).name == str(checkpoint_of(run, "best"))


@pytest.mark.parametrize(
    ("setting", "said", "hint"),
    [
        ("model.hidden_size=32", "model.hidden_size: 32, but {run} has 16", "model.hidden_size=16"),
        ("model.num_heads=4", "model.num_heads: 4, but {run} has 2", "model.num_heads=2"),
        ("model.tied_embeddings=target", "model.tied_embeddings: target, but {run} has all", "tied_embeddings=all"),
        ("model.positions=learned", "model.positions: learned, but {run} has sinusoidal", "positions=sinusoidal"),
    ],
)
def test_another_model_is_refused_by_key_and_values(run: Path, setting: str, said: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        initial_weights(str(run), config(setting))
    assert said.format(run=run) in caught.value.what
    assert hint in str(caught.value.hint)


def test_a_new_target_tag_is_an_entry_of_its_own(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new tag was refused. Its rows are drawn as those of a new model, and no other weight changes."""
    wanted = config()
    data = {"train": [{"source": "a", "target": "b", "target_tag": "fr"}]}
    wanted = Config.model_validate({**wanted.model_dump(), "data": {**wanted.data.model_dump(), **data}})
    before, initial = initial_weights(str(run), config()), initial_weights(str(run), wanted)
    assert "<2fr>" in capsys.readouterr().err
    size = before.tokenizers.source.size
    assert initial.tokenizers.source.size == size + 1
    torch.manual_seed(7)
    model = build_model(wanted.model, size + 1, size + 1)
    drawn = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    load_initial_weights(model, initial)
    for name, parameter in model.named_parameters():
        old = before.tensors[name]
        assert torch.equal(parameter[: len(old)], old)
        assert torch.equal(parameter[len(old) :], drawn[name][len(old) :])
    assert sum(len(parameter) - len(before.tensors[name]) for name, parameter in model.named_parameters()) == 1


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word", "wordpunct"])
def test_tags_are_added_to_every_kind_of_vocabulary(kind: str, tmp_path: Path) -> None:
    old = _tokenizers(kind, ["<2de>"], joint=kind != "word")
    new = old.with_tags(["<2de>", "<2fr>"])
    assert old.with_tags(["<2de>"]) is old
    assert new.joint == old.joint
    assert new.source.size == old.source.size + 1
    assert new.source.tags == ["<2de>", "<2fr>"]
    texts = ["<2de> a small house", "the dog  sleeps"]
    assert new.source.encode(texts) == old.source.encode(texts)
    assert new.target.encode(texts[1:]) == old.target.encode(texts[1:])
    new.save(tmp_path)
    loaded = TokenizerPair.load(tmp_path)
    assert loaded.fingerprint == new.fingerprint
    assert loaded.source.encode(["<2fr> a dog"])[0].count(old.source.size) == 1


def test_text_that_the_vocabulary_does_not_know_is_refused_or_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Russian was trained into a vocabulary of German words: every token was unknown, and the run ended with 0."""
    russian = ["Собака спит в доме.", "Кошка видит большую птицу.", "Мы читаем новую книгу."] * 4
    with pytest.raises(
        ConfigError, match="100% of the target tokens are unknown to the vocabulary of runs/old"
    ) as caught:
        check_new_text(_prepared(tmp_path, _tokenizers("word", joint=False), russian), "runs/old")
    assert "tokenizer.extend=true adds" in str(caught.value.hint)
    capsys.readouterr()
    check_new_text(_prepared(tmp_path, _tokenizers("unigram", joint=False), russian), "runs/old")
    said = capsys.readouterr().err
    assert "of the target tokens are single bytes" in said
    assert "source tokens" not in said
    assert "tokenizer.extend=true" in said


def test_text_without_tags_is_refused_by_a_run_with_tags(tmp_path: Path) -> None:
    """It was trained without a word, and the model lost the languages that it had."""
    targets = [pair[1] for pair in builtin_pairs("demo", "train")[:12]]
    for kind in ("unigram", "char"):
        tokenizers = _tokenizers(kind, ["<2de>", "<2fr>"])
        with pytest.raises(ConfigError, match="target tags \\(<2de>, <2fr>\\), and 100% of the new") as caught:
            check_new_text(_prepared(tmp_path, tokenizers, targets), "runs/old")
        assert "target_tag: de" in str(caught.value.hint)
        check_new_text(_prepared(tmp_path, tokenizers, targets, tag="fr"), "runs/old")


@pytest.mark.parametrize(
    "settings",
    [
        ["model.kind=transformer", "model.tied_embeddings=all"],
        ["model.kind=transformer", "model.tied_embeddings=target", "tokenizer.joint=false"],
        ["model.kind=transformer", "model.tied_embeddings=none", "tokenizer.joint=false"],
        ["model.kind=rnn", "model.embedding_size=16", "model.tied_embeddings=all"],
        ["model.kind=rnn", "model.embedding_size=16", "model.tied_embeddings=none", "tokenizer.joint=false"],
    ],
    ids=["all", "target", "none", "rnn all", "rnn none"],
)
def test_new_entries_change_no_other_weight(settings: list[str]) -> None:
    wanted = load_config([], [*(each for each in TINY if "rnn" not in settings[0] or "hidden" in each), *settings])
    old = _tokenizers("unigram", joint=wanted.tokenizer.joint)
    russian = [("Кошка спит.", "Собака спит."), ("Кошка ест.", "Собака ест.")]
    new = old.extended(wanted.tokenizer, iter(russian), 1)
    before = build_model(wanted.model, old.source.size, old.target.size)
    torch.manual_seed(7)
    model = build_model(wanted.model, new.source.size, new.target.size)
    drawn = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    tensors = {name: parameter.detach().clone() for name, parameter in before.named_parameters()}
    load_initial_weights(model, InitialModel(new, tensors, wanted.model, "old", RunDirectory(Path("old")), []))
    grown = 0
    for name, parameter in model.named_parameters():
        rows = len(tensors[name])
        assert torch.equal(parameter[:rows], tensors[name])
        assert torch.equal(parameter[rows:], drawn[name][rows:])
        grown += len(parameter) > rows
    assert grown == {"all": 1, "target": 2, "none": 4}[wanted.model.tied_embeddings]  # an untied output has a bias


def _tokenizers(kind: str, tags: list[str] | None = None, *, joint: bool = True) -> TokenizerPair:
    pairs = builtin_pairs("demo", "train")[:120]
    settings = config(f"tokenizer.kind={kind}", f"tokenizer.joint={str(joint).lower()}", "model.tied_embeddings=none")
    tagged = [
        (f"{tags[number % len(tags)]} {pair[0]}" if tags else pair[0], pair[1]) for number, pair in enumerate(pairs)
    ]
    return train_tokenizers(settings.tokenizer, lambda: iter(tagged), 1, tags or ())


def _prepared(folder: Path, tokenizers: TokenizerPair, targets: list[str], tag: str | None = None) -> Prepared:
    sources = [pair[0] for pair in builtin_pairs("demo", "train")[: len(targets)]]
    for name, lines in (("new.en", sources), ("new.xx", targets)):
        (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
    source = {"source": str(folder / "new.en"), "target": str(folder / "new.xx"), "target_tag": tag}
    data = Config.model_validate({"data": {"train": [source], "holdout": 0}}).data
    return prepare(data, config().tokenizer, cache=folder / "cache", tokenizers=tokenizers)


def test_another_architecture_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.kind: rnn, but .* has transformer"):
        initial_weights(str(run), load_config([], ["model.kind=gru"]))


def test_a_given_vocabulary_must_be_the_runs(run: Path, tmp_path: Path) -> None:
    """Another vocabulary of the same size fits every tensor and means other words."""
    own = run / "tokenizer" / "joint.model"
    assert initial_weights(str(run), config(f"tokenizer.source_model={own}")).tensors
    pairs = builtin_pairs("demo", "train")[500:600]
    other = train_tokenizers(config().tokenizer, lambda: iter(pairs), seed=1)
    other.source.save(tmp_path / "other.model")
    with pytest.raises(ConfigError, match="not the vocabulary") as caught:
        initial_weights(str(run), config(f"tokenizer.source_model={tmp_path / 'other.model'}"))
    assert "leave tokenizer.source_model out" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            ["tokenizer.vocabulary_size=500", "tokenizer.kind=bpe"],
            ["kind: bpe (there: unigram)", "size: 500 (there: 33"],
        ),
        (["tokenizer.vocabulary_size=330", "tokenizer.kind=unigram", "tokenizer.sampling=0.1"], []),
        ([], []),
    ],
    ids=["others", "the same", "none"],
)
def test_tokenizer_settings_without_effect_are_told(
    run: Path, settings: list[str], told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """They were ignored in silence."""
    wanted = load_config([], [*(setting for setting in TINY if not setting.startswith("tokenizer")), *settings])
    for given in (wanted, Config.model_validate(wanted.model_dump())):  # as typed, and as a run keeps it
        capsys.readouterr()
        initial_weights(str(run), given)
        said = capsys.readouterr().err
        assert said.count("warning: ") == bool(told)
        assert all(text in said for text in told)


def test_a_shrunk_vocabulary_may_be_stated_by_its_true_size(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy, symlinks=True)
    text = (copy / "config.yaml").read_text(encoding="utf-8")
    (copy / "config.yaml").write_text(text.replace("vocabulary_size: 330", "vocabulary_size: 9000"), encoding="utf-8")
    size = initial_weights(str(copy), config("tokenizer.vocabulary_size=9000")).tokenizers.source.size
    initial_weights(str(copy), config(f"tokenizer.vocabulary_size={size}"))
    assert "warning" not in capsys.readouterr().err


def test_what_is_not_there_is_said(run: Path, tmp_path: Path) -> None:
    unbegun = run.parent / "just-being-made"
    unbegun.mkdir()
    (unbegun / "config.yaml").write_text("seed: 1\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="no run directory") as caught:
        initial_weights(str(run.parent / "rum"), config())
    assert caught.value.hint == f"runs in {run.parent}: run"
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(run)
    with pytest.raises(CheckpointError, match="no run directory") as caught:
        initial_weights(str(tmp_path / "mine"), config())
    assert caught.value.hint == f"did you mean {tmp_path / 'runs' / 'mine'}?"
    with pytest.raises(CheckpointError, match="no checkpoint") as caught:
        initial_weights(str(run / "checkpoints" / "step-00000099"), config())
    assert "step-00000002" in str(caught.value.hint)
    with pytest.raises(CheckpointError, match="not a run directory"):
        initial_weights(str(tmp_path), config())
