"""Settings: one door, one validation, and every mistake named with its place and a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.config import Config, RNNSettings, TransformerSettings, config_to_yaml, load_config
from seq2seq.config.differences import changed_settings
from seq2seq.config.presets import PRESETS
from seq2seq.config.reference import json_schema, reference_lines
from seq2seq.config.yaml import read_value, read_yaml
from seq2seq.errors import ConfigError, UsageError

SHIPPED = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def error_of(tmp_path: Path, text: str, *overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config([write(tmp_path, text)], overrides)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path: Path) -> None:
    config = load_config([path])
    assert config.name == path.stem
    assert config.data.train


def test_the_schema_for_editors_knows_what_configs_may_say() -> None:
    """It refused every shipped config: `preset` and `kind: gru` are replaced before the settings are validated."""
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert set(PRESETS) == set(schema["properties"]["preset"]["enum"])
    assert all({"type": "null"} in schema["properties"][group]["anyOf"] for group in ("data", "model", "training"))
    assert "oneOf" not in str(schema["properties"]["model"])  # `model: {dropout: 0.1}` fits both kinds
    assert {"rnn", "gru"} == set(schema["$defs"]["RNNSettings"]["properties"]["kind"]["enum"])
    for path in SHIPPED:
        assert read_yaml(path.read_text(encoding="utf-8"), path.name).data.keys() <= schema["properties"].keys()


def test_shipped_configs_cover_the_promised_cases() -> None:
    names = {path.stem for path in SHIPPED}
    assert {
        "demo",
        "multi30k-en-de",
        "multi30k-en-de-gru",
        "multi30k-hub",
        "own-files",
        "wmt14-de-en",
    } <= names
    assert {"names", "names-generate"} <= names


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads(name: str) -> None:
    assert load_config([], [f"preset={name}"]) != Config()


def test_order_of_precedence(tmp_path: Path) -> None:
    """Defaults < preset < files in order < command line."""
    first = write(tmp_path, "preset: gru\ntraining: {batch_size: 100, log_every: 7}\n")
    second = tmp_path / "second.yaml"
    second.write_text("training: {batch_size: 200}\n")
    config = load_config([first, second], ["training.max_steps=9"])
    assert isinstance(config.model, RNNSettings)
    assert config.model.layer_norm  # from the preset
    assert config.training.batch_size == 200
    assert config.training.log_every == 7
    assert config.training.max_steps == 9
    assert config.training.label_smoothing == Config().training.label_smoothing


def test_changing_the_architecture_starts_the_model_anew(tmp_path: Path) -> None:
    path = write(tmp_path, "model: {kind: transformer, ff_size: 64}\n")
    assert isinstance(load_config([path], ["model.kind=gru"]).model, RNNSettings)
    kept = load_config([path], ["model.dropout=0.5"]).model
    assert isinstance(kept, TransformerSettings)
    assert (kept.ff_size, kept.dropout) == (64, 0.5)


def test_old_names_of_recurrent_models_stay_valid(tmp_path: Path) -> None:
    """Runs stored `kind: gru` for every recurrent model, and `cell: rnn` for the tanh cell."""
    path = write(tmp_path, "model: {kind: gru, cell: rnn, hidden_size: 34}\n")
    config = load_config([path], ["model.kind=rnn"])
    assert config.model == RNNSettings(cell="tanh", hidden_size=34)
    assert load_config([path], ["model.kind=gru", "model.cell=lstm"]).model == RNNSettings(cell="lstm", hidden_size=34)


def test_a_group_with_all_keys_commented_out_keeps_its_defaults(tmp_path: Path) -> None:
    assert load_config([write(tmp_path, "training:\n  # batch_size: 3\nseed: 4\n")]).training == Config().training
    path = write(tmp_path, "preset: gru\ntraining:\n")
    assert load_config([path], ["training="]).training.batch_size == PRESETS["gru"]["training"]["batch_size"]
    assert load_config([path]).training.optimizer.learning_rate == 2e-3


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_resolved_yaml_reads_back_equal(path: Path, tmp_path: Path) -> None:
    config = load_config([path])
    assert load_config([write(tmp_path, config_to_yaml(config))]) == config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),  # PyYAML reads a string
        ("1.5e3", 1500.0),
        ("no", "no"),  # Norwegian; PyYAML reads False
        ("on", "on"),
        ("'3'", "3"),
        ("3", 3),
        ("20_000", 20000),
        ("0x10", 16),
        ("12:30", "12:30"),  # YAML 1.1 reads 750
        ("true", True),
        ("null", None),
        ("~", None),
        ("[1, a]", [1, "a"]),
        ("2021-01-01", "2021-01-01"),
    ],
)
def test_yaml_traps(text: str, value: object) -> None:
    read = read_value(text, "test")
    assert read == value
    assert type(read) is type(value)


def test_norwegian_is_a_language(tmp_path: Path) -> None:
    assert load_config([write(tmp_path, "data: {target_language: no}\n")]).data.target_language == "no"


def test_lines_are_those_of_the_file() -> None:
    document = read_yaml("a: 1\n\nb:\n  c: 2\n  d:\n    - e: 3\n", "x.yaml")
    assert document.place(("b", "c")) == "x.yaml:4"
    assert document.place(("b", "d", 0, "e")) == "x.yaml:6"
    assert document.place(("b", "missing")) == "x.yaml:3"


@pytest.mark.parametrize(
    ("text", "what", "line", "hint"),
    [
        ("sed: 1\n", "unknown key `sed`", 1, "did you mean seed?"),
        ("training:\n  batchsize: 3\n", "unknown key `training.batchsize`", 2, "did you mean training.batch_size?"),
        ("training:\n  frezee: 1\n", "unknown key `training.frezee`", 2, "did you mean training.freeze?"),
        ("training:\n  lr: 3\n", "unknown key `training.lr`", 2, "training.optimizer.learning_rate"),
        ("learning_rate: 3\n", "unknown key `learning_rate`", 1, "training.optimizer.learning_rate"),
        ("model:\n  kind: gru\n  ff_size: 3\n", "unknown key `model.ff_size`", 3, "keys here"),
        ("model: {kind: lstm}\n", "transformer or rnn", 1, "{kind: rnn, cell: lstm}"),
        ("training:\n  batch_size: many\n", "`training.batch_size`", 2, "reference training"),
        ("model: {dropout: 1.5}\n", "`model.dropout`", 1, "reference model"),
        ("a: 1\na: 2\n", "key `a` is given twice (first on line 1)", 2, None),
        ("a: [1\n", "not valid YAML", 2, "colons"),
        ("training:\n  freeze: [*]\n", "not valid YAML", 2, 'quote it: freeze: ["*"]'),
        ("- 1\n", "mapping", 1, "key: value"),
        ("preset: transformr-tiny\n", "unknown preset", 1, "did you mean transformer-tiny?"),
        ("data:\n  train:\n    - {source: a.en}\n", "`data.train.0.target` is missing", 3, "target:"),
        ("data:\n  train:\n    - {tsv: a.tsv, sorce: 1}\n", "unknown key `data.train.0.sorce`", 3, "mean source?"),
        (
            "tokenizer: {joint: false}\n",
            "model.tied_embeddings: all needs one vocabulary",
            None,
            "tied_embeddings",
        ),
        ("model: {hidden_size: 30}\n", "multiple of num_heads", 1, None),
        ("model: {kind: gru, attention: none}\n", "input_feeding", 1, "input_feeding: false"),
        ("training: {max_steps: 5, schedule: {kind: cosine, warmup_steps: 5}}\n", "warmup_steps", None, None),
        ("tokenizer: {target_model: a.model}\n", "target_model", 1, "joint: false"),
        ("training: {patience: .inf}\n", "patience", 1, None),
    ],
)
def test_mistakes_name_the_place_and_the_remedy(
    tmp_path: Path, text: str, what: str, line: int | None, hint: str | None
) -> None:
    error = error_of(tmp_path, text)
    assert what in error.what
    if line is not None:
        assert error.where is not None
        assert error.where.endswith(f"config.yaml:{line}")
    if hint is not None:
        assert error.hint is not None
        assert hint in error.hint


@pytest.mark.parametrize("override", ["seed", "=3", "training.=3", "a b=3"])
def test_malformed_overrides(override: str) -> None:
    with pytest.raises(ConfigError, match="not a setting"):
        load_config([], [override])


def test_an_override_is_named_as_typed(tmp_path: Path) -> None:
    error = error_of(tmp_path, "seed: 1\n", "seeed=3")
    assert error.where == "command line, seeed=3"


def test_another_override_of_the_group_is_not_blamed(tmp_path: Path) -> None:
    path = write(tmp_path, "model: {kind: gru}\n")
    with pytest.raises(ConfigError, match="input_feeding") as caught:
        load_config([path], ["model.attention=none", "model.hidden_size=32"])
    assert caught.value.where == f"{path}:1"


@pytest.mark.parametrize(
    ("given", "quoted"),
    [
        ("[*]", """'training.freeze=["*"]'"""),
        ("*", """'training.freeze="*"'"""),
        ("*embedding*", """'training.freeze="*embedding*"'"""),
        ("['a *b', encoder.*, *c]", """training.freeze=['a *b', encoder.*, "*c"]"""),
    ],
)
def test_a_pattern_that_yaml_takes_for_an_alias(given: str, quoted: str) -> None:
    """The hint was to check indentation and colons."""
    with pytest.raises(ConfigError, match="not valid YAML") as caught:
        load_config([], [f"training.freeze={given}"])
    assert caught.value.hint == f"quote it: {quoted}"
    setting = quoted.strip("'")
    assert any(pattern.startswith("*") for pattern in load_config([], [setting]).training.freeze)


@pytest.mark.parametrize("given", ["encoder.*", "[encoder.*]", "'encoder.*'"])
def test_a_single_pattern_needs_no_brackets(given: str) -> None:
    assert load_config([], [f"training.freeze={given}"]).training.freeze == ("encoder.*",)


def test_arms_of_a_union_are_one_problem() -> None:
    """A batch size of 0 was said to have a second problem: that it is not `auto`."""
    with pytest.raises(ConfigError, match=r"`training\.batch_size`") as caught:
        load_config([], ["training.batch_size=0"])
    assert caught.value.what.endswith(", not 0")
    with pytest.raises(ConfigError, match=r"\(and 1 more\)"):
        load_config([], ["training.batch_size=0", "training.max_steps=0"])
    with pytest.raises(ConfigError, match=r"`data\.train\.0\.source`"):
        load_config([], ["data.train=[{tsv: a.tsv, source: [1]}]"])


def test_missing_file_suggests_a_near_one(tmp_path: Path) -> None:
    write(tmp_path, "seed: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config([tmp_path / "confg.yaml"])
    assert "config.yaml" in (caught.value.hint or "")


@given(st.text(max_size=60))
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    where = "fuzz.yaml"
    try:
        read_yaml(text, "fuzz.yaml")
    except ConfigError as error:
        where = error.where or ""
    assert "fuzz.yaml" in where


def test_reference_documents_every_key() -> None:
    text = "\n".join(reference_lines())
    for path in (
        "training.optimizer.learning_rate",
        "model.attention",
        "data.cleaning.max_ratio",
        "tokenizer.kind",
    ):
        assert f"\n{path}: " in text
    entries = [line for line in reference_lines() if line and line[0] not in " ["]
    lines = reference_lines()
    undocumented = [
        entry
        for entry in entries
        if not lines[lines.index(entry) + 1].startswith("    ") and not entry.split(": ")[0].endswith("kind")
    ]
    assert undocumented == []
    with pytest.raises(UsageError):
        reference_lines("trainig")


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("training.batch_size", "int | auto = 4096"),
        ("training.max_epochs", "int | null = null"),
        ("training.freeze", "[str, ...] = []"),
        ("training.optimizer.betas", "[float, float] = (0.9, 0.98)"),
        ("training.metric", "auto | bleu | chrf | loss = auto"),
        ("data.train", "list of sources = []"),
        ("training.activation_checkpointing", "bool = false"),
    ],
)
def test_reference_writes_types_as_a_user_does(key: str, shown: str) -> None:
    """The type of the batch size was shown as pydantic's internal text."""
    assert reference_lines(key)[0] == f"{key}: {shown}"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("training.foo", "keys there: batch_size, batch_type"),
        ("training.frezee", "did you mean training.freeze?"),
        ("training.learning_rate", "did you mean training.optimizer.learning_rate?"),
        ("batch_size", "did you mean training.batch_size?"),
        ("trainin", "did you mean training?"),
        ("trainin.batch_size", "did you mean training.batch_size?"),
        ("training.batch_size.foo", "did you mean training.batch_size?"),
        ("xyzzy", "sections: data, tokenizer, model, training, decoding"),
    ],
)
def test_reference_suggests_near_keys(key: str, hint: str) -> None:
    """For a key that there is not, its section was suggested."""
    with pytest.raises(UsageError) as caught:
        reference_lines(key)
    assert str(caught.value.hint).startswith(hint)


def test_differences_show_what_was_set() -> None:
    shown = changed_settings(load_config([], ["seed=9", "model.kind=gru", "model.cell=lstm"]))
    assert shown == ["seed: 9", "model.kind: rnn", "model.cell: lstm"]


@pytest.mark.parametrize("settings", [["tokenizer.kind=bpe"], ["model.attention=none", "model.input_feeding=false"]])
def test_unknown_words_cannot_be_replaced_without_unknown_words_or_attention(settings: list[str]) -> None:
    """The first validation would fail, after the data and the first steps."""
    with pytest.raises(ConfigError, match=r"decoding\.replace_unknown"):
        load_config([], ["preset=demo-gru", *settings])


def test_a_wrong_warm_up_is_an_error_of_the_config(tmp_path: Path) -> None:
    """It was compared with the number of steps before it was validated."""
    with pytest.raises(ConfigError, match="warmup_steps"):
        load_config([], ["training.schedule.kind=wsd", "training.schedule.warmup_steps=1k"])
