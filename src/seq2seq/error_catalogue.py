"""Every fault by its code: cause, remedy and exit code. `seq2seq help errors` prints it."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """What a code stands for."""

    exit_code: int
    cause: str
    remedy: str


CATALOGUE = {
    # 1: ours
    "internal.bug": Entry(1, "The tool met something that it was not written for.", "Report the log that is named."),
    # 2: usage and settings
    "usage.command-line": Entry(
        2,
        "A command or an option does not exist, or an argument is missing or of the wrong type.",
        "COMMAND --help shows what there is.",
    ),
    "usage.choice": Entry(2, "The value of an option is none of its choices.", "Take one of those that are named."),
    "usage.value": Entry(2, "A number is outside of what it may be.", "Take one within the bounds that are named."),
    "usage.conflict": Entry(2, "Two options exclude each other.", "Leave one of them out."),
    "usage.needs": Entry(2, "An option has no meaning without another one.", "Add the other, or leave both out."),
    "usage.nothing-to-do": Entry(2, "The command was not told what to work on.", "Give a config, a run or a file."),
    "usage.same-file": Entry(2, "One file stands where two are wanted.", "Name two different files."),
    "usage.exists": Entry(
        2, "A config, tokenizer or export of this name exists.", "Give another name with -o; `init` has --force."
    ),
    "usage.unwritable": Entry(
        2, "The output cannot be written there.", "Choose another place with -o, or change its permissions."
    ),
    "usage.in-use": Entry(2, "Another process works on the same run or file.", "Wait for it, or choose another place."),
    "usage.resume": Entry(
        2, "What was begun was begun otherwise.", "Give the options of the first time, or begin anew."
    ),
    "usage.picture": Entry(
        2, "The picture cannot be drawn as wanted.", "Take the kind, line, layer or head hinted at."
    ),
    "usage.code": Entry(2, "There is no fault of this code.", "seq2seq help errors lists all."),
    "usage.failpoint": Entry(2, "SEQ2SEQ_FAILPOINTS, meant for tests, is malformed.", "Unset it."),
    "config.no-file": Entry(2, "The config is missing, a folder, unreadable or not UTF-8.", "seq2seq init writes one."),
    "config.syntax": Entry(2, "The config is not YAML, or no mapping of keys to values.", "Mend the line named."),
    "config.duplicate-key": Entry(2, "A key is given twice; YAML would keep one in silence.", "Remove one of them."),
    "config.setting": Entry(
        2, "An argument is no setting of the form key=value.", "Write it as training.max_steps=1000, without spaces."
    ),
    "config.unknown-key": Entry(
        2, "There is no such setting.", "Take the name suggested, or look it up: seq2seq config reference."
    ),
    "config.unknown-preset": Entry(2, "There is no such preset.", "Take one of those that are named."),
    "config.missing-key": Entry(2, "A setting without default is missing.", "Add it at the place named."),
    "config.value": Entry(
        2, "A setting is of the wrong type or out of bounds.", "seq2seq config reference KEY shows what it may be."
    ),
    "config.conflict": Entry(2, "Two settings do not go together.", "Change one of them as the hint says."),
    "config.no-data": Entry(2, "The config names no training data.", "Add data.train: [{source: FILE, target: FILE}]."),
    "config.changed": Entry(
        2, "The run was begun with other settings.", "Put the old ones back, or take another folder with -o."
    ),
    "config.secret": Entry(
        2, "A setting holds a password or token, which would be stored.", "Fetch the file yourself."
    ),
    "config.batch-size": Entry(2, "A batch cannot hold the longest pair.", "Set a larger training.batch_size."),
    "config.vocabulary": Entry(2, "The vocabulary cannot be made or used as set.", "Take the size or file hinted at."),
    "config.freeze": Entry(
        2, "training.freeze matches nothing, or everything.", "Give a pattern of parameter names, such as encoder.*."
    ),
    "config.init-from": Entry(
        2, "training.init_from names a run of another model.", "Leave the model's keys out: they are the run's."
    ),
    "config.ranks": Entry(
        2, "Ranks were started unlike each other, or too many.", "Give all of them the same command."
    ),
    "device.unknown": Entry(2, "There is no such kind of device.", "Take auto, cpu, cuda, cuda:N or mps."),
    "device.missing": Entry(2, "The device is not there.", "Set device=auto; seq2seq doctor lists what is there."),
    "device.precision": Entry(2, "The device does not compute in this precision.", "Leave it at auto."),
    "model.no-attention": Entry(2, "The model has no attention to read off.", "Use a model with attention."),
    "model.vocabulary": Entry(
        2, "This works with another kind of vocabulary.", "Train with the tokenizer.kind hinted at."
    ),
    "model.too-long": Entry(
        2, "A line is longer than the model's table of positions.", "Split the line, or train with other positions."
    ),
    "search.phrases": Entry(2, "A prefix or phrase cannot be part of an output.", "Shorten it, or allow more length."),
    "search.ensemble": Entry(
        2, "The models of an ensemble have different vocabularies.", "Take runs that share one vocabulary."
    ),
    "search.target-tag": Entry(2, "The model does not know this target tag.", "Take one of those that are named."),
    "export.unsupported": Entry(
        2, "The format or engine cannot carry this.", "Take the format, engine or option hinted at."
    ),
    "export.library": Entry(
        2,
        "The library for it is not installed or not usable.",
        "Install the extra that is named: pip install 'seq2seq[...]'.",
    ),
    "export.exported": Entry(2, "This is an export, where a run is wanted.", "Name the run, or leave the option out."),
    # 3: data
    "data.no-file": Entry(3, "A file is missing, a folder, or cannot be read.", "Check path and permissions."),
    "data.encoding": Entry(3, "A line is not UTF-8.", "Convert it (iconv); what the hint names replaces the bytes."),
    "data.compression": Entry(3, "A .gz or .xz file is damaged or is none.", "Fetch it again; gzip -t tests it."),
    "data.line-counts": Entry(
        3, "Two files differ in their number of lines.", "Mend the files: line i must translate line i."
    ),
    "data.no-lines": Entry(3, "A file holds no line to work on.", "Check that it is the right file."),
    "data.too-few": Entry(3, "There are too few lines for this.", "Give more text, or a smaller number."),
    "data.nothing-left": Entry(3, "Cleaning dropped every pair.", "The table says which filter; relax data.cleaning."),
    "data.column": Entry(3, "A column or key is missing or holds no text.", "One of those that are there."),
    "data.json": Entry(3, "A line is no JSON object.", "Write one JSON object a line."),
    "data.line-length": Entry(3, "A line is longer than a text can be.", "Check that it is text with line ends."),
    "data.no-split": Entry(3, "The run has no such test set.", "Give --source FILE --references FILE."),
    "data.tokens": Entry(3, "A line is no list of token numbers.", "Give what tokenizer encode --ids prints."),
    "data.glossary": Entry(3, "A line of a glossary is malformed.", "Write source phrase, one tab, target phrase."),
    "data.alignment": Entry(3, "A line of word links is malformed.", "Write links such as 0-0 1-2."),
    "data.prepared": Entry(3, "Prepared data are damaged or changed underneath.", "Run the command again."),
    "data.tokenizer-text": Entry(
        3, "The tokenizer cannot be learnt from this text.", "Give more text, or set tokenizer.kind=char."
    ),
    "data.resume": Entry(
        3, "The input is not the one that was begun with.", "Give the old input, or leave --resume out."
    ),
    "hub.no-dataset": Entry(3, "The hub has no such dataset, split or revision.", "Check the name; log in if private."),
    # 4: network
    "network.fetch": Entry(4, "Something could not be fetched.", "Try again; HF_HUB_OFFLINE=1 uses the cache alone."),
    "network.code": Entry(4, "The dataset would run code of its own.", "Take its Parquet form, or another dataset."),
    "network.content": Entry(4, "What came is not what was promised: wrong hash, or a web page.", "Try again later."),
    "network.archive": Entry(4, "An archive would write outside of its folder, or is a bomb.", "Do not trust it."),
    # 5: what was kept
    "run.missing": Entry(5, "There is no run here.", "Take one of the runs that are named; seq2seq train makes one."),
    "run.damaged": Entry(5, "A file of the run is damaged.", "Put a copy of it back, or do what the hint says."),
    "checkpoint.missing": Entry(5, "There is no such checkpoint, or none whole.", "Take one of those that are named."),
    "checkpoint.damaged": Entry(5, "A file of the checkpoint is missing, cut or changed.", "Take an older checkpoint."),
    "checkpoint.version": Entry(5, "Another version of seq2seq made it.", "Use that version: pip install -U seq2seq."),
    "checkpoint.mismatch": Entry(5, "The checkpoint is not of this model.", "Use it with the config of its own run."),
    "checkpoint.unsafe": Entry(
        5, "The file is a pickle, which can run code.", "Use safetensors, as seq2seq makes them."
    ),
    "tokenizer.missing": Entry(5, "There is no tokenizer here.", "Name the folder of a run, or of a tokenizer."),
    "tokenizer.damaged": Entry(
        5, "The tokenizer is damaged or no such file.", "Put back a copy of it, or take another run."
    ),
    "tokenizer.swapped": Entry(
        5, "It is not the tokenizer that the model was trained with.", "Put the run's own tokenizer back."
    ),
    "export.missing": Entry(5, "There is no such export in the run.", "Make one: seq2seq export RUN."),
    "export.damaged": Entry(5, "The export is damaged or made by another version.", "Export again."),
    "export.parity": Entry(5, "The export translates otherwise than the model.", "Report it, and use the run itself."),
    # 6 to 8: in the middle of the work
    "training.diverged": Entry(
        6, "Loss or gradient is not a finite number.", "Set a lower learning rate or more warm-up."
    ),
    "model.not-a-number": Entry(
        6, "The model's output is not a number.", "Take another checkpoint, or --precision fp32."
    ),
    "disk.full": Entry(7, "The disk is full.", "Free some space and run the same command again."),
    "disk.error": Entry(7, "The disk does not read or write.", "Check the disk; run the same command again."),
    "memory.training": Entry(7, "Memory ran out in training.", "Set a smaller training.batch_size."),
    "memory.translating": Entry(7, "Memory ran out in translating.", "Give a smaller --batch-size or --beam-size."),
    "memory.host": Entry(
        7, "The machine's memory ran out.", "Free some, lift ulimit -v, start fewer processes, or set smaller batches."
    ),
    "worker.rank": Entry(8, "A rank died, hangs or cannot be reached.", "Run the same command again: it resumes."),
    "worker.loader": Entry(
        8, "A process that loads data died.", "Set training.num_workers=0 and data.num_processes=1."
    ),
    "worker.translation": Entry(8, "A process that translates died.", "Give --workers 1."),
}
