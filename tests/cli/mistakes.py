"""What a user may get wrong, command by command: exit code, a part of the answer, and what was typed."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile


def lay_out() -> None:
    """Fill the working folder with files that are wrong in some way."""
    Path("three.txt").write_text("a\nb\nc\n")
    Path("threb.txt").write_text("a\nb\nc\n")
    Path("four.txt").write_text("a\nb\nc\nd\n")
    Path("latin1.txt").write_bytes(b"a\nb\nM\xe4dchen\n")
    Path("blank.txt").write_text("\n" * 30)
    Path("text30.txt").write_text("some words\n" * 30)
    Path("text31.txt").write_text("some words\n" * 30)
    Path("bad.yaml").write_text("training:\n  batch_sise: 3\n")
    Path("broken.yaml").write_text("a: [1\n")
    Path("nodata.yaml").write_text("seed: 1\n")
    Path("empty.txt").write_text("")
    Path("empty2.txt").write_text("")
    Path("packed.zip").touch()
    Path("units.xlf").write_text("<xliff/>")
    Path("cut.json").write_text('{"en": [')
    Path("utf16.txt").write_text("some words\n" * 30, encoding="utf-16")
    with ZipFile("text.docx", "w") as document:
        document.writestr("word/document.xml", "<document/>")
    Path("commas.en").write_text("A dog runs.\nA man, a dog and a cat.\nTwo men sit, a dog runs.\nIt rains.\nNo.\n")
    Path("folder").mkdir()


MISTAKES = [
    (2, "nothing to train on", ("train",)),
    (2, "no config file", ("train", "missing.yaml")),
    (2, "https://h.org/c.yaml?a=1 is a URL", ("train", "https://h.org/c.yaml?a=1")),
    (2, "hint: download it first", ("config", "show", "https://h.org/c.yaml")),
    (2, "unknown key `training.batch_sise`", ("train", "bad.yaml")),
    (2, "unknown key `foo`", ("config", "show", "nodata.yaml", "foo=")),
    (2, "--> command line, model.kind=lstm", ("config", "show", "nodata.yaml", "model.kind=lstm")),
    (2, "bad.yaml:2", ("train", "bad.yaml")),
    (2, "not valid YAML", ("train", "broken.yaml")),
    (2, "no training data", ("train", "nodata.yaml")),
    (2, "belong together", ("train", "--source", "three.txt")),
    (2, "not a setting", ("train", "nodata.yaml", "=3")),
    (2, "folder", ("train", "folder")),
    (3, "four.txt", ("train", "--source", "three.txt", "--target", "four.txt")),
    (3, "missing.txt", ("train", "--source", "missing.txt", "--target", "four.txt")),
    (3, "did you mean packed.zip?", ("train", "--source", "paked.zip/a.en", "--target", "four.txt")),
    (
        3,
        "latin1.txt:3",
        ("data", "prepare", "nodata.yaml", "data.train=[{source: three.txt, target: latin1.txt}]"),
    ),
    (3, "empty", ("data", "prepare", "nodata.yaml", "data.train=[{source: blank.txt, target: text30.txt}]")),
    (2, "device", ("train", "nodata.yaml", "device=tpu", "data.train=[{builtin: demo}]", "-o", "r")),
    (2, "device: cuda:1 for that GPU", ("train", "nodata.yaml", "device=1", "data.train=[{builtin: demo}]", "-o", "r")),
    (2, "cuda:9", ("train", "nodata.yaml", "device=cuda:9", "data.train=[{builtin: demo}]", "-o", "r")),
    (
        2,
        "fp16",
        (
            "train",
            "nodata.yaml",
            "training.precision=fp16",
            "device=cpu",
            "data.train=[{builtin: demo}]",
            "-o",
            "r",
        ),
    ),
    (2, "cannot write", ("train", "nodata.yaml", "data.train=[{builtin: demo}]", "-o", "three.txt/run")),
    (5, "no run directory", ("translate", "missing")),
    (5, "not a run directory", ("translate", "folder")),
    # "train one first", of a run that somebody had trained and published.
    (5, "https://h.org/run is an address", ("translate", "https://h.org/run", "three.txt")),
    (5, "hint: download it first", ("evaluate", "hf://somebody/run")),
    (5, "hint: download it first", ("doctor", "https://h.org/run")),
    (5, "https://h.org/run is an address", ("tokenizer", "encode", "https://h.org/run")),
    (2, "--errors", ("translate", "folder", "--errors", "ignore")),
    (5, "no run directory", ("evaluate", "missing")),
    (2, "nothing to evaluate", ("evaluate",)),
    (2, "needs --references", ("evaluate", "--hypotheses", "three.txt")),
    (2, "did you mean ja?", ("evaluate", "--hypotheses", "three.txt", "-r", "three.txt", "-l", "Japanese")),
    (2, "--language is given 2 times", ("evaluate", "--hypotheses", "three.txt", "-l", "de", "-l", "ja")),
    (2, "--output is given 2 times", ("data", "download", "some/where", "-o", "one", "--output", "other")),
    (2, "--source is given 2 times", ("train", "-s", "three.txt", "-s", "four.txt", "-t", "three.txt")),
    (2, "one run is evaluated at a time", ("evaluate", "missing", "other")),
    (3, "4", ("evaluate", "--hypotheses", "three.txt", "--references", "four.txt")),
    (5, "no run directory", ("score", "missing", "--source", "three.txt", "--target", "three.txt")),
    (5, "folder", ("tokenizer", "encode", "folder")),
    (2, "--side", ("tokenizer", "encode", "folder", "--side", "left")),
    (3, "missing.txt", ("tokenizer", "train", "-s", "missing.txt", "-t", "three.txt", "-o", "out")),
    (
        2,
        "unknown key `tokenizer.size`",
        ("tokenizer", "train", "-s", "three.txt", "-t", "three.txt", "-o", "t", "size=3"),
    ),
    (2, "no training data", ("data", "prepare", "seed=1")),
    (2, "missing argument", ("data", "prepare")),
    (2, "--model", ("demo", "--model", "lstm")),
    (2, "--model", ("init", "--model", "lstm", "--source", "three.txt", "--target", "three.txt")),
    (3, "only 3 lines", ("init", "--source", "three.txt", "--target", "threb.txt")),
    (2, "same file", ("init", "--source", "three.txt", "--target", "three.txt")),
    (3, "latin1.txt:3", ("init", "--source", "three.txt", "--target", "latin1.txt")),
    (2, "cannot write", ("init", "--source", "text30.txt", "--target", "text31.txt", "missing/x.yaml")),
    (2, "without a config", ("train", "nodata.yaml", "--source", "text30.txt", "--target", "text31.txt")),
    (2, "belong to --sample", ("translate", "folder", "--temperature", "0.5")),
    (2, "belong to --sample", ("translate", "folder", "--seed", "5")),
    (2, "no key begins with", ("config", "reference", "trainin")),
    (2, "keys there: batch_size", ("config", "reference", "training.foo")),
    (2, """quote it: 'training.freeze=["*"]'""", ("train", "nodata.yaml", "training.freeze=[*]")),
    (2, "did you mean training.freeze?", ("train", "nodata.yaml", "training.frezee=1")),
    (
        5,
        # The folder that is just being made is no run to begin with.
        "hint: train one first",
        (
            "train",
            "nodata.yaml",
            "data.train=[{builtin: demo}]",
            "data.holdout=9",
            "training.init_from=nowhere",
            "device=cpu",
            "devices=1",
            "-o",
            "r",
        ),
    ),
    (2, "no such command", ("trian",)),
    (2, "no such option", ("train", "--sorce", "x")),
    (2, "invalid value", ("translate", "folder", "--beam-size", "0")),
    (2, "missing argument", ("translate",)),
]

# The same with a trained run, which RUN stands for; nothing of it may change.
WITH_A_RUN = [
    (3, "no such file", ("translate", "RUN", "missing.txt")),
    (2, "cannot write", ("translate", "RUN", "three.txt", "-o", "missing/out.txt")),
    (2, "is the input", ("translate", "RUN", "three.txt", "-o", "three.txt")),
    (2, "folder", ("translate", "RUN", "three.txt", "-o", "folder")),
    (5, "did you mean RUN?", ("translate", "RUN/config.yaml", "three.txt")),
    (5, "did you mean RUN?", ("translate", "RUN/checkpoints", "three.txt")),
    (5, "step-99", ("translate", "RUN", "three.txt", "--checkpoint", "step-99")),
    (2, "device: gpu", ("translate", "RUN", "three.txt", "--device", "gpu")),
    (2, "invalid value for '--beam-size'", ("translate", "RUN", "three.txt", "--beam-size", "five")),
    (3, "missing.tsv", ("translate", "RUN", "three.txt", "--glossary", "missing.tsv")),
    (2, "target tag", ("translate", "RUN", "three.txt", "--target-tag", "fr")),
    (2, "--split dev", ("evaluate", "RUN", "--split", "dev")),
    (2, "belong together", ("evaluate", "RUN", "--source", "three.txt")),
    (3, "four.txt", ("score", "RUN", "--source", "three.txt", "--target", "four.txt")),
    (3, "lines", ("align", "RUN", "--source", "three.txt", "--target", "four.txt")),
    (2, "--format onnx is neither ctranslate2 nor huggingface", ("export", "RUN", "--format", "onnx")),
    (2, "missing option '--format' / '-f'  [", ("export", "RUN")),
    (2, "int3", ("export", "RUN", "--format", "ctranslate2", "--quantization", "int3")),
    (2, "belongs to --format", ("export", "RUN", "--format", "huggingface", "--quantization", "int8")),
    (
        2,
        "started with other settings",
        ("train", "nodata.yaml", "data.train=[{builtin: demo}]", "seed=99", "-o", "RUN"),
    ),
    (2, "--side left", ("tokenizer", "encode", "RUN", "--side", "left")),
    (2, "--baseline and --quiet exclude", ("evaluate", "RUN", "-q", "--baseline", "RUN")),
    (2, "holds other files", ("tokenizer", "train", "-s", "text30.txt", "-t", "text31.txt", "-o", "RUN")),
    (2, "scored without a model", ("evaluate", "--hypotheses", "text30.txt", "-r", "text31.txt", "--split", "valid")),
    (2, "scored without a model", ("evaluate", "--hypotheses", "text30.txt", "-r", "text31.txt", "-b", "4")),
    (2, "standard input is one text", ("evaluate", "--hypotheses", "-", "-r", "-")),
    (2, "standard input is one text", ("score", "RUN", "-s", "-", "-t", "-")),
    (3, "utf16.txt is UTF-16 text", ("data", "check", "-s", "text30.txt", "-t", "utf16.txt", "--fix", "clean")),
    (3, "text.docx is a Word document", ("data", "check", "-p", "text.docx")),
    (2, "tokenizer of a run", ("tokenizer", "train", "-s", "text30.txt", "-t", "text31.txt", "-o", "RUN/tokenizer")),
    (
        2,
        "model.hidden_size: 64",
        (
            "train",
            "nodata.yaml",
            "data.train=[{builtin: demo}]",
            "training.init_from=RUN",
            "model.hidden_size=64",
            "device=cpu",
            "devices=1",
            "-o",
            "r",
        ),
    ),
]

WITH_A_RUN += [
    # A report once replaced the mark of the best checkpoint.
    (2, "is a file of the run", ("report", "RUN", "-o", "RUN/checkpoints/best")),
    (2, "is a file of the run", ("report", "RUN", "--markdown", "-o", "RUN/train.log")),
    (2, "is a file of the run", ("translate", "RUN", "three.txt", "-o", "RUN/config.yaml")),
    (2, "is a file of the run", ("evaluate", "RUN", "-o", "RUN/test.hyp")),
    (2, "text30.txt is the input", ("evaluate", "RUN", "--baseline", "text30.txt", "-o", "text30.txt")),
    (2, "hint: choose another file with --html", ("compare", "RUN", "RUN", "--html", "RUN/results.json")),
    # No number is below it, so that nothing was dropped.
    (2, "'--min-score': must be 0 or less", ("backtranslate", "RUN", "three.txt", "-o", "bt", "--min-score", "nan")),
    (3, "nothing to translate in empty.txt", ("backtranslate", "RUN", "empty.txt", "-o", "bt")),
    (2, "hint: mkdir -p missing", ("backtranslate", "RUN", "three.txt", "-o", "missing/bt")),
    (2, "is no name that files can begin with", ("backtranslate", "RUN", "three.txt", "-o", "-")),
    (2, "three.txt is a file", ("distill", "RUN", "-o", "three.txt")),
    # Told only after the teacher had translated its whole corpus.
    (2, "unknown key `foo`", ("distill", "RUN", "-o", "student", "foo=1")),
    (2, "hint: choose a file with --html", ("compare", "RUN", "RUN", "--html", "folder")),
    (2, "is a file of the run", ("align", "RUN", "-o", "RUN/data.json")),
]

_DEMO = ("train", "nodata.yaml", "data.train=[{builtin: demo}]", "device=cpu", "devices=1", "-o", "r")
MISTAKES += [
    # A budget of ten million years made the record of the run unreadable: "run.damaged".
    (2, "--budget 99999999999d is longer than 19 years", ("train", "--pairs", "three.txt", "--budget", "99999999999d")),
    (2, "10000000 or less", ("train", "nodata.yaml", "training.budget_minutes=1e30")),
    (2, "hint: name it by training.init_from=RUN", ("train", "nodata.yaml", "tokenizer.extend=true")),
    (3, "units.xlf is empty", ("train", "--pairs", "units.xlf")),
    (3, "is the file complete?", ("data", "check", "--pairs", "cut.json")),
    # One text with a comma in some lines was taken for a table of two columns.
    (3, "a text has a file for each side", ("train", "--pairs", "commas.en")),
    # Twenty trials were put into the current folder.
    (2, "trials want a folder of their own", ("tune", "nodata.yaml", "--budget", "1m", "-o", "")),
    (2, "a run wants a folder of its own", ("train", "--pairs", "three.txt", "-o", "folder/..")),
    (2, "missing argument 'RUN'", ("compare",)),
    # Three hidden files, .en, .de and .receipt.tsv, were written.
    (2, "--fix '' is no name", ("data", "check", "--pairs", "three.txt", "--fix", "")),
    (2, "hint: --fix folder/clean", ("data", "check", "--pairs", "three.txt", "--fix", "folder")),
    (2, "hint: seq2seq distill [OPTIONS] RUN [KEY=VALUE...]", ("distill", "runs/x")),
    (2, "hint: seq2seq export --help", ("export", "RUN", "--threads", "1")),
    (2, "settings have no dashes: training.max_steps=", ("train", "--training.max_steps=3")),
    (2, "without spaces", ("config", "show", "nodata.yaml", "seed = 3")),
    (2, "seed=VALUE", ("train", "nodata.yaml", "seed")),
    (2, "For two text files: seq2seq train --source", ("train", "three.txt", "threb.txt")),
    (3, "only 3 lines", ("train", "--source", "three.txt", "--target", "threb.txt")),
    (2, "did you mean builtin: demo?", ("train", "nodata.yaml", "data.train=[{builtin: dmeo}]")),
    (2, "did you mean transformer-tiny?", ("train", "nodata.yaml", "preset=trasformer-tiny")),
    (
        3,
        "cannot be held out",
        (
            "train",
            "nodata.yaml",
            "data.train=[{source: text30.txt, target: text31.txt}]",
            "data.holdout=500",
            "data.cleaning.drop_duplicates=false",
            "device=cpu",
            "devices=1",
            "-o",
            "r",
        ),
    ),
    (3, "tab", ("data", "prepare", "nodata.yaml", "data.train=[{tsv: three.txt}]")),
    (3, "not JSON", ("data", "prepare", "nodata.yaml", "data.train=[{jsonl: three.txt, source: a, target: b}]")),
    (
        2,
        "training.batch_size 3",
        (
            "train",
            "nodata.yaml",
            "data.train=[{source: text30.txt, target: text31.txt}]",
            "data.cleaning.drop_duplicates=false",
            "tokenizer.kind=char",
            "training.batch_size=3",
            "device=cpu",
            "devices=1",
            "-o",
            "r",
        ),
    ),
    (2, "too small", ("data", "prepare", "nodata.yaml", "data.train=[{builtin: demo}]", "tokenizer.vocabulary_size=9")),
    (5, "three.txt", (*_DEMO, "data.holdout=9", "training.init_from=three.txt")),
    (2, "nodata.yaml exists", ("init", "--source", "text30.txt", "--target", "text31.txt", "nodata.yaml")),
    (3, "did you mean three.txt", ("init", "--source", "thre.txt", "--target", "text31.txt")),
    (3, "missing.txt", ("evaluate", "--hypotheses", "three.txt", "--references", "missing.txt")),
    (3, "four.txt", ("tokenizer", "train", "-s", "three.txt", "-t", "four.txt", "-o", "t")),
    (5, "three.txt", ("tokenizer", "encode", "three.txt")),
    (2, "cannot write", ("demo", "-o", "three.txt/run")),
    (5, "no run directory", ("doctor", "missing")),
    (2, "no error has the code", ("help", "errors", "E42")),
    (2, "no such command", ("help", "erors")),
    (2, "is a file, not a folder", ("tokenizer", "train", "-s", "text30.txt", "-t", "text31.txt", "-o", "three.txt/x")),
    (3, "empty.txt is empty", ("tokenizer", "train", "-s", "empty.txt", "-t", "empty.txt", "-o", "t")),
    (3, "not UTF-8", ("tokenizer", "train", "-s", "threb.txt", "-t", "latin1.txt", "-o", "t")),
    (2, "a folder of its own", ("train", "nodata.yaml", "data.train=[{builtin: demo}]", "-o", "")),
    (2, "CORPUS is missing or empty", ("data", "download", "", "-s", "en", "-t", "de")),
    (2, "the same column, en", ("data", "download", "some/where", "-s", "en", "-t", "en")),
    (3, "folder is a folder", ("data", "prepare", "data.train=[{source: folder, target: three.txt}]")),
    (3, "three.txt is a file", ("data", "prepare", "data.train=[{source: three.txt/x, target: three.txt}]")),
    (3, "write the whole path", ("data", "prepare", "data.train=[{source: ~/x.en, target: three.txt}]")),
    (2, "the same file", ("data", "prepare", "data.train=[{source: three.txt, target: ./three.txt}]")),
    (2, "ftp://h/a is an address", ("data", "prepare", "data.train=[{source: 'ftp://h/a', target: three.txt}]")),
    (3, "empty.txt is empty", ("init", "--source", "empty.txt", "--target", "empty2.txt", "new.yaml")),
    (2, "requires an argument", ("train", "-o")),
    (2, "no such option", ("--quiet", "train")),
    (2, "unexpected extra argument", ("tokenizer", "encode", "folder", "three.txt")),
    (2, "config.secret", ("config", "show", "data.train=[{source: 'https://a:b@c/d', target: e}]")),
    # The corpus that had just been read was replaced by the config.
    (2, "text31.txt is the input", ("init", "-s", "text30.txt", "-t", "text31.txt", "text31.txt", "--force")),
    (2, "text31.txt is the input", ("data", "check", "-s", "text30.txt", "-t", "text31.txt", "--html", "text31.txt")),
    # One of the two was ignored.
    (2, "--split and --source exclude", ("evaluate", "no", "--split", "valid", "-s", "three.txt", "-r", "threb.txt")),
    (2, "--html - and --json exclude", ("compare", "one", "other", "--html", "-", "--json")),
    (2, "--html - and --json exclude", ("data", "check", "nodata.yaml", "--html", "-", "--json")),
    # "the run comes before the text", of commands that read no text.
    (5, "hint: the run comes before the text: runs/NAME three.txt", ("translate", "three.txt", "folder")),
    (5, "hint: the run comes before the text: runs/NAME three.txt", ("backtranslate", "three.txt", "x", "-o", "bt")),
    (5, "hint: train one first", ("report", "three.txt")),
    (5, "hint: train one first", ("compare", "three.txt", "folder")),
    (5, "hint: train one first", ("evaluate", "three.txt")),
    # "hint: . holds ..."
    (3, "hint: relative paths start from /", ("data", "prepare", "data.train=[{source: q, target: three.txt}]")),
]

# Told before anything is read: the run need not exist.
_TRANSLATE: list[tuple[str, tuple[str, ...]]] = [
    ("--token-scores needs --json", ("--token-scores",)),
    ("--resume needs -o FILE", ("--resume",)),
    ("--resume needs -o FILE", ("--resume", "-o", "-")),
    ("--mbr and --sample exclude", ("--mbr", "8", "--sample")),
    ("--mbr and --n-best exclude", ("--mbr", "8", "--n-best", "2")),
    ("--mbr and --glossary exclude", ("--mbr", "8", "--glossary", "x")),
    ("--mbr-utility ter", ("--mbr", "8", "--mbr-utility", "ter")),
    ("--mbr-utility needs --mbr", ("--mbr-utility", "bleu")),
    ("--sample and --diversity exclude", ("--sample", "--diversity", "1", "--n-best", "2")),
    ("--diversity needs --n-best", ("--diversity", "1")),
    ("--diversity and --glossary exclude", ("--diversity", "1", "--n-best", "2", "--glossary", "x")),
    ("--max-length and --max-length-ratio exclude", ("--max-length", "9", "--max-length-ratio", "2")),
    ("--precision int3 is none of auto, fp32, bf16, fp16 and int8", ("--precision", "int3")),
    ("--engine marian is none of native, ctranslate2 and auto", ("--engine", "marian")),
    ("--engine ctranslate2 and --ensemble exclude", ("--engine", "ctranslate2", "--ensemble", "x")),
    ("--engine ctranslate2 and --shortlist exclude", ("--engine", "ctranslate2", "--shortlist")),
    ("--engine ctranslate2 and --glossary exclude", ("--engine", "ctranslate2", "--glossary", "x")),
    ("--engine ctranslate2 and --mbr exclude", ("--engine", "ctranslate2", "--mbr", "8")),
    ("a shortlist serves a single run", ("--shortlist", "--ensemble", "x")),
    ("--shortlist and --sample exclude", ("--shortlist", "--sample")),
    ("--rerank and --sample exclude", ("--rerank", "x", "--sample")),
    ("a beam of 1 has one", ("--rerank", "x", "-b", "1")),
    ("--rerank-weight needs --rerank RUN", ("--rerank-weight", "1")),
    ("'--rerank-weight': must be 1000 or less, not inf", ("--rerank", "x", "--rerank-weight", "inf")),
    ("belong to --sample and --mbr", ("--top-k", "3")),
    # The beam was widened in silence.
    ("a beam of 1 cannot give 3 translations", ("-b", "1", "--n-best", "3")),
    ("a beam of 2 cannot give 3 translations", ("-b", "2", "--n-best", "3", "--diversity", "1")),
    # In pydantic's words: Input should be greater than or equal to 1.
    ("'--n-best': must be 1 or more, not 0", ("--n-best", "0")),
    ("'--n-best': must be a whole number, not 1.5", ("--n-best", "1.5")),
    ("'--top-p': must be 1 or less, not 2", ("--sample", "--top-p", "2")),
    ("'--length-penalty': must be 0 or more, not nan", ("--length-penalty", "nan")),
    ("'--diversity': must be a number, not much", ("--diversity", "much")),
]
MISTAKES += [(2, text, ("translate", "missing", *options)) for text, options in _TRANSLATE]
