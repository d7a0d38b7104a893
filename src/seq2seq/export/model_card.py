"""Model card of an export for the Hugging Face hub: the model, its data, scores and use."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

from seq2seq.config import Source
from seq2seq.config.sources import BuiltinSource, HubSource, TextSource
from seq2seq.export.folder import Trained
from seq2seq.export.parity import Parity
from seq2seq.sealed_records import DataRecord, Results, read_record

_UNNAMED = ("src", "tgt")
_USE = """\
```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

name = "path/to/this/folder"
tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModelForSeq2SeqLM.from_pretrained(name)
inputs = tokenizer([{example}], return_tensors="pt", padding=True)
print(tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True))
```"""


def model_card(trained: Trained, parity: Parity, architecture: str, example: str) -> str:
    """The model card in Markdown, with the hub's front matter; `example` is a source text for the code example."""
    data = trained.config.data
    languages = [code for code in (data.source_language, data.target_language) if code not in _UNNAMED]
    front = ["---", *(["language:", *(f"- {code}" for code in languages)] if languages else [])]
    front += ["library_name: transformers", "pipeline_tag: translation", "tags:", "- translation", "- seq2seq", "---"]
    direction = f"{data.source_language} to {data.target_language}" if len(languages) == 2 else "source to target"
    parts = [
        "\n".join(front),
        f"# {trained.name}",
        f"Translates text, {direction}: `{architecture}`, trained from scratch with seq2seq {version('seq2seq')} "
        f"and exported from its checkpoint `{trained.checkpoint}` by "
        f"`seq2seq export {trained.name} --format huggingface`.",
        "## Use\n\n" + _USE.format(example=json.dumps(example, ensure_ascii=False)),
        "## Data\n\n" + _data(trained),
        "## Scores\n\n" + _scores(trained),
        "## Model\n\n" + _model(trained),
        "## Check of the export\n\n" + _check(parity),
    ]
    return "\n\n".join(parts) + "\n"


def _data(trained: Trained) -> str:
    """Names of the corpora, without folders, and their sizes if known."""
    record = read_record(trained.run / "data.json", DataRecord, hint="remove it") or DataRecord()
    kept, read = record.counts.kept, record.counts.read
    lines = [f"- training: {_named(source)}" for source in trained.config.data.train]
    lines += [f"- {kept:,} pairs after cleaning, of {kept if read is None else read:,}"] if kept else []
    lines += [f"- validation: {_named(source)}" for source in trained.config.data.valid]
    lines += [f"- test: {_named(source)}" for source in trained.config.data.test]
    return "\n".join(lines) or "Not recorded."


def _named(source: Source) -> str:
    match source:
        case TextSource():
            return f"`{Path(source.source).name}`, `{Path(source.target).name}`"
        case HubSource():
            return f"`{source.hub}` ({source.split})"
        case BuiltinSource():
            return f"built-in task `{source.builtin}` ({source.split})"
        case _:
            return f"`{Path(source.file).name}`"


def _scores(trained: Trained) -> str:
    """The run's test scores with their signatures and decoding settings."""
    results = read_record(trained.run / "results.json", Results, hint="remove it") or Results()
    test = results.test
    if results.checkpoint != trained.checkpoint or test is None or not test.metrics:
        return "This checkpoint has not been scored on a test set."
    rows = [
        f"| {score.name} | {score.value:.2f} | `{score.signature.replace('|', chr(92) + '|')}` |"
        for score in test.metrics
    ]
    search = f"beam size {test.decoding.get('beam_size')}, length penalty {test.decoding.get('length_penalty')}"
    table = ["| metric | score | signature |", "|---|---|---|", *rows]
    return f"Test set of {test.sentences} sentences, {search}.\n\n" + "\n".join(table)


def _model(trained: Trained) -> str:
    settings = trained.config.model.model_dump()
    sizes = [
        (key, settings[key]) for key in ("encoder_layers", "decoder_layers", "hidden_size", "ff_size", "num_heads")
    ]
    vocabulary = [side.size for side in dict.fromkeys(trained.tokenizers)]
    parameters = sum(parameter.numel() for parameter in trained.model.parameters())
    lines = [f"- {parameters:,} parameters", *(f"- {key}: {value}" for key, value in sizes)]
    lines.append(f"- vocabulary: {' and '.join(f'{size:,}' for size in vocabulary)} sentencepiece subwords")
    return "\n".join(lines)


def _check(parity: Parity) -> str:
    result = parity.results[0]
    text = (
        f"Greedy outputs of {parity.sentences} sentences ({parity.source}) were compared with those of the model that "
        f"was exported: {result.identical} are identical"
    )
    text += f", {result.ties} differ where two tokens are equally likely" if result.ties else ""
    change = parity.difference(result)
    return text + ("." if change is None else f"; BLEU {result.bleu:.2f} ({change:+.2f}, `{parity.signature}`).")
