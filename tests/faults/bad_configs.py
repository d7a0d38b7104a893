"""Configs that are wrong, each with what must be said of it: traps of YAML, and mutations of every key of the tree."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from seq2seq.config import Config, RNNSettings


class BadConfig(NamedTuple):
    """One file, and what the one-line cause, the place and the hint must hold."""

    name: str
    content: bytes
    what: str
    line: int | None
    hint: str


def _bad(name: str, text: str, what: str, line: int | None, hint: str) -> BadConfig:
    return BadConfig(name, text.encode(), what, line, hint)


TRAPS = [
    # Text that is not YAML, or not what it looks like.
    _bad("tab", "seed: 1\ntraining:\n\tmax_steps: 3\n", "not valid YAML", 3, "tabs cannot indent"),
    _bad("open bracket", "data: [1\n", "not valid YAML", 2, "close the bracket"),
    _bad("open quote", "name: 'x\n", "not valid YAML", 2, "close the bracket or the quote"),
    _bad("no space after the colon", "seed:3\n", "a mapping of keys to values", 1, "seed: 3"),
    _bad("equals sign", "seed = 3\n", "a mapping of keys to values", 1, "seed: 3"),
    _bad("full-width colon", "seed：3\n", "a mapping of keys to values", 1, "seed: 3"),
    _bad("list at the top", "- seed: 3\n", "a mapping of keys to values", 1, "key: value"),
    _bad("plain words", "hello world\n", "a mapping of keys to values", 1, "key: value"),
    _bad("two documents", "seed: 1\n---\nseed: 2\n", "not valid YAML", 2, "remove the line ---"),
    _bad("two keys on a line", "seed: 1 name: x\n", "not valid YAML", 1, "one `key: value` a line"),
    _bad("indented too far", "training:\n  log_every: 3\n   max_steps: 4\n", "not valid YAML", 3, "indented alike"),
    _bad("not indented", "training:\nmax_steps: 3\n", "unknown key `max_steps`", 2, "training.max_steps"),
    _bad("key without a name", ": 3\n", "a key must be a plain word", 1, "key: value"),
    _bad("alias", "training:\n  freeze: *embedding*\n", "not valid YAML", 2, 'quote it: freeze: "*embedding*"'),
    _bad("at sign", "@seed: 1\n", "not valid YAML", 1, '"@seed": 1'),
    _bad("list as a key", "? [a]\n: b\n", "a key must be a plain word", 1, "without ? or brackets"),
    _bad("same key twice", "seed: 1\nname: x\nseed: 2\n", "`seed` is given twice (first on line 1)", 3, "remove one"),
    _bad("same key twice, inside", "training:\n  log_every: 1\n  log_every: 2\n", "given twice", 3, "remove one"),
    _bad("merge key", "a: &a {b: 1}\nmodel: {<<: *a}\n", "unknown key `model.<<`", 2, "no merge keys"),
    _bad("a group that holds itself", "model: &a {b: *a}\n", "holds itself", 1, "four levels"),
    _bad("depth without end", "seed: " + "[" * 700, "too many levels", None, "four levels"),
    _bad(
        "aliases that multiply",
        "a0: &a0 [x,x,x,x,x,x,x,x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 8}]\n" for i in range(1, 12)),
        "more than 100,000 values",
        1,
        "aliases",
    ),
    _bad("code", "seed: !!python/object/apply:os.abort []\n", "!!python/object/apply:os.abort", 1, "begins with !"),
    _bad("tag", "seed: !include other.yaml\n", "no tags such as !include", 1, "begins with !"),
    _bad("NUL", "seed: 1\nname: a\x00b\n", "U+0000", 2, "remove it"),
    BadConfig("Latin-1", b"name: M\xe4dchen\n", "not UTF-8 at byte 7", None, "UTF-8"),
    BadConfig("UTF-16", "seed: 1\n".encode("utf-16"), "not UTF-8 at byte 0", None, "UTF-8"),
    BadConfig("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "not UTF-8", None, "UTF-8"),
    _bad("no-break space", "training:\n\u00a0 max_steps: 3\n", "<U+00A0>", 2, "training.max_steps"),
    _bad("zero-width space", "se\u200bed: 3\n", "se<U+200B>ed", 1, "did you mean seed?"),
    _bad("Cyrillic letter", "s\u0435ed: 3\n", "s<U+0435>ed", 1, "did you mean seed?"),
    # Values that are not what they look like.
    _bad("curly quotes", "seed: “3”\n", "must be a whole number", 1, "reference seed"),
    _bad("commas in a number", "training: {max_steps: 20,000}\n", "`training.000`", 1, "without commas"),
    _bad("thousands", "training:\n  max_steps: 20k\n", "a whole number, not '20k'", 2, "max_steps: 20000"),
    _bad("fraction", "training:\n  max_steps: 3.5\n", "a whole number, not 3.5", 2, "reference training.max_steps"),
    _bad("comment without a space", "seed: 1#2\n", "not '1#2'", 1, "reference seed"),
    _bad("infinite", "training: {max_gradient_norm: .inf}\n", "a finite number, not inf", 1, "max_gradient_norm"),
    _bad("beyond all numbers", "seed: 1e999\n", "finite", 1, "reference seed"),
    _bad("five thousand digits", "seed: " + "9" * 5000 + "\n", "a whole number", 1, "reference seed"),
    _bad("larger than a seed", "seed: 99999999999999999999\n", "9223372036854775807 or less", 1, "reference seed"),
    _bad("off", "training: {patience: off}\n", "a whole number, not 'off'", 1, "patience: null"),
    _bad("no", "training: {ema_decay: no}\n", "a number, not 'no'", 1, "ema_decay: null"),
    _bad("maybe", "tokenizer: {joint: maybe}\n", "true or false, not 'maybe'", 1, "tokenizer.joint"),
    _bad("number as a name", "name: 2024\n", "must be text, not 2024", 1, 'name: "2024"'),
    _bad("number as a pattern", "training: {freeze: [1]}\n", "must be text, not 1", 1, '"1"'),
    _bad("null", "model:\n  dropout:\n", "a number, not null", 2, "remove the line"),
    _bad("case of a choice", "model: {activation: ReLU}\n", "relu, gelu or swiglu, not 'ReLU'", 1, "activation: relu"),
    _bad("one choice of two", "training: {batch_size: huge}\n", "a whole number or auto, not 'huge'", 1, "batch_size"),
    _bad("three betas", "training: {optimizer: {betas: [0.9, 0.9, 1]}}\n", "too many values", 1, "betas: [0.9, 0.98]"),
    _bad("truth as a number", "seed: true\n", "must be a number, not true", 1, "reference seed"),
    _bad("truth as a size", "training: {batch_size: true}\n", "a number, not true", 1, "reference training.batch_size"),
    _bad("below the least or a word", "training: {batch_size: 0}\n", "be 1 or more, or auto, not 0", 1, "batch_size"),
    _bad("truth as a name", "name: true\n", "must be text, not true", 1, 'name: "true"'),
    _bad(
        "spaces in a tag", "data: {train: [{source: a, target: b, target_tag: d e}]}\n", "letters, digits", 1, "train"
    ),
    _bad(
        "end mark as a tag", "data: {train: [{source: a, target: b, tag: s}]}\n", "a capital letter, then", 1, "train"
    ),
    _bad("tag at use", "data: {valid: [{source: a, target: b, tag: BT}]}\n", "tag marks training", 1, "data.valid"),
    _bad(
        "no name of a file", "data: {train: [{source: a, target: ''}]}\n", "cannot be empty", 1, "reference data.train"
    ),
    _bad("column below 0", "data: {train: [{tsv: a, source: -1}]}\n", "must be 0 or more, or text", 1, "data.train"),
    _bad("kind of an entry", "data: {train: [{tsv: a, kind: tsv}]}\n", "`data.train.0.kind`", 1, "keys here: weight"),
    _bad("betas", "training: {optimizer: {betas: [0.9, 1.5]}}\n", "less than 1, not 1.5", 1, "betas"),
    _bad("one of two betas", "training: {optimizer: {betas: [0.9]}}\n", "too few values", 1, "betas: [0.9, 0.98]"),
    # A group where a value is wanted, and the reverse.
    _bad("group as a value", "seed: {a: 1}\n", "a whole number, not a group", 1, "reference seed"),
    _bad("value as a group", "training: 5\n", "`training` is a group of settings, not 5", 1, "batch_size"),
    _bad(
        "model by name", "model: gru\n", "`model` is a group of settings, not 'gru'", 1, "model: {kind: rnn, cell: gru}"
    ),
    _bad("optimizer by name", "training: {optimizer: adam}\n", "not 'adam'", 1, "optimizer: {kind: adamw}"),
    _bad("schedule by name", "training: {schedule: cosine}\n", "not 'cosine'", 1, "schedule: {kind: cosine}"),
    _bad("file as the data", "data: {train: a.en}\n", "a list, not 'a.en'", 1, "[{source: FILE, target: FILE}]"),
    _bad("pair as the data", "data: {train: {source: a, target: b}}\n", "a list", 1, "[{source: FILE, target: FILE}]"),
    _bad("file as an entry", "data:\n  train:\n    - a.en\n", "not 'a.en'", 3, "{source: FILE, target: FILE}"),
    _bad("list as an entry", "data: {train: [[a.en, a.de]]}\n", "not a list", 1, "{source: FILE, target: FILE}"),
    _bad("half an entry", "data:\n  train:\n    - source: a.en\n", "train.0.target` is missing", 3, "add `target:`"),
    _bad("two forms at once", "data: {train: [{tsv: a, jsonl: b}]}\n", "`data.train.0.jsonl`", 1, "keys here"),
    # Names from elsewhere.
    _bad("dots", "training.max_steps: 3\n", "`training.max_steps`", 1, "training: {max_steps: ...}"),
    _bad("capitals", "SEED: 1\n", "`SEED`", 1, "did you mean seed?"),
    _bad("hyphen", "training: {batch-size: 3}\n", "`training.batch-size`", 1, "training.batch_size?"),
    _bad("d_model", "model: {d_model: 3}\n", "`model.d_model`", 1, "model.hidden_size?"),
    _bad("lr", "lr: 3\n", "`lr`", 1, "training.optimizer.learning_rate?"),
    _bad("lstm", "model: {kind: lstm}\n", "transformer or rnn, not 'lstm'", 1, "{kind: rnn, cell: lstm}"),
    _bad("kind without value", "model: {kind: }\n", "not null", 1, "{kind: transformer}"),
    _bad("preset", "preset: transformr-tiny\n", "unknown preset", 1, "did you mean transformer-tiny?"),
    _bad("preset as a list", "preset: [gru]\n", "unknown preset", 1, "did you mean gru?"),
    # Settings that do not go together.
    _bad("heads", "model: {hidden_size: 30}\n", "multiple of num_heads", 1, "hidden_size: "),
    _bad("input feeding", "model: {kind: gru, attention: none}\n", "input_feeding", 1, "input_feeding: false"),
    _bad("odd width", "model: {kind: gru, hidden_size: 5}\n", "must be even", 1, "reference model"),
    _bad("two vocabularies", "tokenizer: {joint: false}\n", "needs one vocabulary", None, "tokenizer.joint: true"),
    _bad("two models", "tokenizer: {target_model: a}\n", "target_model with joint", 1, "joint: false"),
    _bad(
        "warm-up",
        "training:\n  max_steps: 5\n  schedule: {kind: wsd, warmup_steps: 5}\n",
        "must be below",
        None,
        "warmup_steps=0",
    ),
]


def mutations(seed: int, count: int) -> list[BadConfig]:
    """`count` different ones: keys misspelt, moved or given twice, values of a wrong type or out of bounds."""
    draw = random.Random(seed)
    every = [*_mutated(Config(), draw), *_mutated(Config(model=RNNSettings()), draw)]
    return draw.sample(every, min(count, len(every)))


def _mutated(config: Config, draw: random.Random) -> Iterator[BadConfig]:
    kind = config.model.kind
    values = dict(leaves(config.model_dump(mode="json")))
    names = [path[-1] for path in values]
    for path, value in values.items():
        *groups, name = path
        if name == "kind":
            continue
        shown, key = f"{kind}, {'.'.join(path)}", ".".join(path)

        def bad(how: str, path: tuple[str, ...], text: str, what: str, hint: str, shown: str = shown) -> BadConfig:
            lines = _lines(kind, path, text)
            return _bad(f"{shown} {how}", "".join(line + "\n" for line in lines), what, len(lines), hint)

        wrong = _misspelt(name, draw)
        if wrong not in names:
            yield bad("misspelt", (*groups, wrong), "1", f"`{'.'.join([*groups, wrong])}`", f"{name}?")
        if groups and names.count(name) == 1 and groups[0] != "model":
            yield bad("moved", (name,), "1", f"unknown key `{name}`", f"mean {key}?")
        yield bad("twice", path, "1\n" + "  " * len(groups) + f"{name}: 1", "", "")._replace(
            what=f"key `{name}` is given twice", hint="remove one", line=len(_lines(kind, path, "1")) + 1
        )
        if isinstance(value, (bool, int, float)):
            yield bad("as a word", path, "plenty", "not 'plenty'", name)
            yield bad("as a list", path, "[1, 2]", "not a list", name)
        if type(value) in (int, float):
            yield bad("negative", path, "-7", "not -7", name)


def _lines(kind: str, path: tuple[str, ...], value: str) -> list[str]:
    """A config of that architecture whose last line sets one key."""
    *groups, name = path
    first = [] if groups[:1] == ["model"] else ["model:", f"  kind: {kind}"]
    lines = [*first, *("  " * depth + f"{group}:" for depth, group in enumerate(groups))]
    if groups[:1] == ["model"]:
        lines.append(f"  kind: {kind}")
    return [*lines, "  " * len(groups) + f"{name}: {value}"]


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path and value of every key of a settings tree."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _misspelt(name: str, draw: random.Random) -> str:
    """One slip of the fingers: a letter left out, doubled, or swapped with the next."""
    place = draw.randrange(1, len(name) - 1)
    swapped = name[:place] + name[place + 1] + name[place] + name[place + 2 :]
    return draw.choice([name[:place] + name[place + 1 :], name[:place] + name[place] + name[place:], swapped])
