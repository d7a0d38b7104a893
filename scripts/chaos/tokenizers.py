"""500 damaged tokenizers, and as many damaged sentencepiece files from elsewhere.

Full size (about two minutes of one core):

    python scripts/chaos/tokenizers.py --json tokenizers.json

Proves: every cut, flipped bit, swapped or missing file of a saved tokenizer is refused by its hash with exit code 5; a
damaged file from elsewhere (tokenizer.source_model) either is refused, or works for every piece and many characters,
and whatever it does to the library, the process that reads it survives. `native` counts how often the library itself
died in the trial process.
"""

from __future__ import annotations

import io
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import Trial, arguments, conclude, run, warm_up

from seq2seq.config.settings import TokenizerSettings
from seq2seq.console import set_quiet
from seq2seq.data.demo import builtin_pairs
from seq2seq.errors import CheckpointError
from seq2seq.tokenizers import sentencepiece as subword
from seq2seq.tokenizers.pair import TokenizerPair, train_tokenizers


def damage(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """One of the ways in which a file goes bad."""
    place = chance.randrange(len(content))
    match chance.choice(("cut", "bit", "bits", "zeros", "bytes", "insert")):
        case "cut":
            return "cut", content[:place]
        case "bit":
            return "bit", content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
        case "bits":
            changed = bytearray(content)
            for _ in range(30):
                changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            return "bits", bytes(changed)
        case "zeros":
            return "zeros", content[:place] + b"\0" * len(content[place : place + 512]) + content[place + 512 :]
        case "bytes":
            return "bytes", content[:place] + chance.randbytes(64) + content[place + 64 :]
        case _:
            return "insert", content[:place] + b"x" + content[place:]


def own(folder: Path, count: int, chance: random.Random) -> Iterator[Trial]:
    """Damage to what `TokenizerPair.save` wrote: files cut, changed, missing and swapped."""
    pairs = builtin_pairs("demo", "train")[:500]
    for kind in ("unigram", "bpe", "char", "word"):
        place = folder / kind
        joint = kind == "unigram"
        settings = TokenizerSettings(kind=kind, vocabulary_size=500, joint=joint)
        before = train_tokenizers(settings, lambda: iter(pairs), 1)
        before.save(place)
        good = {path: path.read_bytes() for path in sorted(place.iterdir())}
        for number in range(count // 4):
            path = chance.choice(list(good))
            name, content = damage(good[path], chance)
            if content == good[path]:
                continue  # zeros in place of zeros
            if number % 20 == 0:
                name = "missing"
                path.unlink()
            elif number % 20 == 1 and not joint:
                name, sides = "swapped", [each for each in good if each.name != "tokenizer.json"]
                sides[0].write_bytes(good[sides[1]])
            else:
                path.write_bytes(content)
            yield Trial(f"own {kind}: {name} {path.name}", *outcome_of(place))
            for each, content in good.items():
                each.write_bytes(content)
        if TokenizerPair.load(place).fingerprint != before.fingerprint:
            yield Trial(f"own {kind}: whole again", False)
        path = next(iter(good))
        path.write_bytes(good[path][:-1])
        ended = run(["tokenizer", "encode", place, "--side", "source"], log=folder / "log")
        passed = ended.code == 5 and "Traceback" not in ended.said and "error:" in ended.said
        yield Trial(f"own {kind}: command", passed, ended.said)


def outcome_of(folder: Path) -> tuple[bool, str]:
    """Whether a damaged tokenizer is refused as it should be."""
    try:
        TokenizerPair.load(folder)
    except CheckpointError as error:
        return error.exit_code == 5, str(error)
    except Exception as error:
        return False, repr(error)
    return False, "loaded"


def foreign(folder: Path, count: int, chance: random.Random, died: list[int]) -> Iterator[Trial]:
    """Damage to sentencepiece files that nobody has a hash of."""
    import sentencepiece

    sentences = [side for pair in builtin_pairs("demo", "train")[:500] for side in pair]
    models = []
    for kind, rule in (("unigram", "nmt_nfkc"), ("bpe", "identity"), ("unigram", "identity"), ("bpe", "nfkc_cf")):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences), model_writer=model, vocab_size=500, model_type=kind,
            hard_vocab_limit=False, normalization_rule_name=rule, minloglevel=2, byte_fallback=kind == "bpe",
        )  # fmt: skip
        models.append(model.getvalue())
    path = folder / "foreign.model"
    trial = subword.subprocess.run

    def watched(*command: object, **options: object) -> object:
        done = trial(*command, **options)  # type: ignore[call-overload]
        if done.returncode < 0:
            died.append(done.returncode)
        return done

    subword.subprocess.run = watched  # type: ignore[assignment]
    for _ in range(count):
        name, content = damage(chance.choice(models), chance)
        path.write_bytes(content)
        passed, seen = True, "refused"
        try:
            tokenizer = subword.read_model(path)
            rows = tokenizer.encode([*tokenizer.pieces(range(tokenizer.size)), "Grüße 中文 😀 \u2581 \0"])
            tokenizer.decode(rows)
            seen = "works"
        except CheckpointError as error:
            passed = error.exit_code == 5
        except Exception as error:
            passed, seen = False, repr(error)
        yield Trial(f"foreign, {seen}: {name}", passed, seen)


def main() -> int:
    """Every trial, and the table."""
    options = arguments(__doc__)
    count = 40 if options.quick else 500
    chance, died = random.Random(options.seed), list[int]()
    warm_up()
    set_quiet(True)
    with tempfile.TemporaryDirectory() as name:
        os.environ["SEQ2SEQ_CACHE"] = str(Path(name) / "cache")
        trials = [*own(Path(name), count, chance), *foreign(Path(name), count, chance, died)]
    return conclude(options, trials, {"native": len(died)})


if __name__ == "__main__":
    raise SystemExit(main())
