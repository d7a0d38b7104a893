"""Catalogue of every error by its code: cause, remedy and exit code. `seq2seq help errors` prints it."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """Meaning of one error code."""

    exit_code: int
    cause: str
    remedy: str


# fmt: off
CATALOGUE = {
    # 1: a bug
    "internal.bug": Entry(1, "An unexpected error: a bug in seq2seq.", "Report it with the log file that the message names."),
    # 2: usage and settings
    "usage.command-line": Entry(2, "A command, option or argument is unknown, missing or of the wrong type.", "`seq2seq COMMAND --help` lists the options of a command."),
    "usage.choice": Entry(2, "The value of an option is not one of its choices.", "Use one of the choices in the message."),
    "usage.value": Entry(2, "The value of an option is out of range.", "Use a value within the bounds in the message."),
    "usage.conflict": Entry(2, "Two options cannot be combined.", "Leave one of them out."),
    "usage.needs": Entry(2, "An option has no effect without another one.", "Add the other option, or leave both out."),
    "usage.nothing-to-do": Entry(2, "The command has no input.", "Give a config, a run or a file."),
    "usage.same-file": Entry(2, "The same file is given for two purposes.", "Give two different files."),
    "usage.exists": Entry(2, "The output already exists.", "Give another name with -o; `seq2seq init` has --force."),
    "usage.permission": Entry(2, "A file or folder may not be read or written by this user.", "Change its owner or mode, or use a copy."),
    "usage.unwritable": Entry(2, "The output cannot be written to this place.", "Choose another place with -o, or change the permissions."),
    "usage.in-use": Entry(2, "Another process is using the same run or file.", "Wait until it ends, or choose another place."),
    "usage.resume": Entry(2, "The output was started with different options.", "Repeat the original options, or start again without --resume."),
    "usage.direction": Entry(2, "A run for reranking translates in the same direction, or needs target tags.", "Give a run from the target language to the source language."),
    "usage.address": Entry(2, "The server cannot listen on this address or port.", "Choose another --port, or --port 0 for a free one; --host is an address of this machine."),
    "usage.picture": Entry(2, "The model has no such attention to draw, or the format cannot show it.", "Use the kind, line, layer or head in the hint."),
    "usage.system": Entry(2, "The operating system lacks what the tool needs, as Windows does.", "Use Linux or macOS; on Windows, WSL 2."),
    "usage.code": Entry(2, "There is no error with this code.", "`seq2seq help errors` lists all codes."),
    "usage.failpoint": Entry(2, "SEQ2SEQ_FAILPOINTS, a variable for tests, is malformed.", "Unset the variable."),
    "serve.same-pair": Entry(2, "Two runs that are to be served translate the same pair of languages.", "Give one run for each pair of languages."),
    "config.no-file": Entry(2, "The config does not exist, is a folder, or cannot be read as UTF-8.", "`seq2seq init` writes a config."),
    "config.syntax": Entry(2, "The config is not valid YAML, or not a mapping of keys to values.", "Correct the line in the message."),
    "config.duplicate-key": Entry(2, "A key is given twice.", "Remove one of the two lines."),
    "config.setting": Entry(2, "An argument is not a setting of the form KEY=VALUE.", "Write it like training.max_steps=1000, without spaces."),
    "config.unknown-key": Entry(2, "There is no setting with this name.", "Use the suggested name, or look it up: seq2seq config reference."),
    "config.unknown-preset": Entry(2, "There is no preset with this name.", "Use one of the presets in the message."),
    "config.missing-key": Entry(2, "A required setting is missing.", "Add it at the place in the message."),
    "config.value": Entry(2, "A setting has the wrong type or is out of range.", "`seq2seq config reference KEY` shows the allowed values."),
    "config.conflict": Entry(2, "Two settings contradict each other.", "Change one of them as the hint says."),
    "config.no-data": Entry(2, "The config has no training data.", "Add data.train: [{source: FILE, target: FILE}]."),
    "config.changed": Entry(2, "The run was started with different settings.", "Restore the old settings, or choose another folder with -o."),
    "config.data-changed": Entry(2, "A corpus, tokenizer file or dataset revision has changed since the run was started.", "Restore the old data, or choose another folder with -o."),
    "config.no-trial": Entry(2, "Every trial of a search failed.", "The message has the first failure; a smaller space or learning rate may help."),
    "config.secret": Entry(2, "A setting contains a password or token, which the run would store.", "Download the file yourself, and give its path."),
    "config.batch-size": Entry(2, "The batch size is smaller than the longest pair.", "Increase training.batch_size."),
    "config.vocabulary": Entry(2, "The vocabulary cannot be built or used with these settings.", "Use the size or file in the hint."),
    "config.freeze": Entry(2, "training.freeze matches no parameters, or all of them.", "Use a pattern of parameter names, such as encoder.*."),
    "config.init-from": Entry(2, "The model of training.init_from does not fit the config or the new text.", "Leave the model's settings out: they are copied from that run; the hint names the way for the text."),
    "config.ranks": Entry(2, "The processes of a distributed training differ, or there are too many.", "Start the same command on every machine."),
    "device.unknown": Entry(2, "The device name is unknown.", "Use auto, cpu, cuda, cuda:N or mps."),
    "device.missing": Entry(2, "This machine does not have the device.", "Use device=auto; `seq2seq doctor` lists the devices."),
    "device.precision": Entry(2, "The device does not support this precision.", "Use precision auto."),
    "model.no-attention": Entry(2, "The model has no attention.", "Use a model with attention."),
    "model.vocabulary": Entry(2, "The feature needs another kind of vocabulary.", "Train a model with the tokenizer.kind in the hint."),
    "model.too-long": Entry(2, "A line is longer than the model's position table.", "Split the line, or train with sinusoidal or rotary positions."),
    "search.phrases": Entry(2, "A prefix or phrase cannot occur in any output.", "Shorten it, or increase the maximum length."),
    "search.ensemble": Entry(2, "The models of the ensemble have different vocabularies.", "Use runs that share one vocabulary."),
    "search.target-tag": Entry(2, "The model was not trained with this target tag.", "Use one of the tags in the message."),
    "export.unsupported": Entry(2, "The export format or engine does not support this model or option.", "Use the format, engine or option in the hint."),
    "export.library": Entry(2, "An optional library is missing or too old.", "Install the extra in the hint: pip install '.[...]' in a clone."),
    "export.exported": Entry(2, "The command needs a run, and this is an export.", "Give the run, or leave the option out."),
    # 3: data
    "data.no-file": Entry(3, "A file does not exist, is a folder, or cannot be read.", "Check the path and the permissions."),
    "data.encoding": Entry(3, "A line is not valid UTF-8.", "Convert the file with iconv, or replace the bytes with the option in the hint."),
    "data.compression": Entry(3, "A .gz or .xz file is damaged, not compressed, or expands to an excessive size.", "Download it again; `gzip -t FILE` tests it."),
    "data.line-counts": Entry(3, "Two parallel files have different numbers of lines.", "Correct the files: line i must translate line i."),
    "data.no-lines": Entry(3, "A file has no text.", "Check that it is the right file."),
    "data.too-few": Entry(3, "The corpus has too few lines.", "Add text, or reduce the number in the message."),
    "data.nothing-left": Entry(3, "Cleaning removed every pair.", "The table shows which filter removed them; relax data.cleaning."),
    "data.column": Entry(3, "A column or key is missing, or is not text.", "Use one of the columns in the message."),
    "data.json": Entry(3, "A line is not a JSON object.", "Write one JSON object per line."),
    "data.unreadable": Entry(3, "Too many rows of a table cannot be read.", "Correct the rows, or raise data.cleaning.max_unreadable."),
    "data.xml": Entry(3, "A TMX or XLIFF file is damaged or unsafe.", "Export the file again; `xmllint FILE` tests it."),
    "data.language": Entry(3, "A TMX or XLIFF file does not have the languages that were asked for, or has more than two.", "Name the languages of both sides: source: en, target: de."),
    "data.direction": Entry(3, "The text is in the language that the run writes, not in the one that it reads.", "Give a run of the other direction."),
    "data.format": Entry(3, "A file has another format than the source that names it.", "Use the form in the hint, or export the file as CSV or TMX."),
    "data.line-ends": Entry(3, "A file has carriage returns for line ends, as on Macs before 2001.", "Convert it with the command in the hint."),
    "data.line-length": Entry(3, "A line is too long to be a sentence.", "Check that the file is text with line breaks."),
    "data.no-split": Entry(3, "The run has no such test set.", "Give --source FILE --references FILE."),
    "data.tokens": Entry(3, "A line has something that is no token of this tokenizer.", "Use the output of `seq2seq tokenizer encode`, with --ids for both or for neither."),
    "data.glossary": Entry(3, "A line of the glossary is malformed.", "Write: source phrase, one tab, target phrase."),
    "data.prepared": Entry(3, "The prepared data are damaged or were changed by another process.", "Run the command again."),
    "data.tokenizer-text": Entry(3, "The text is too short or too uniform to train this tokenizer.", "Add text, or set tokenizer.kind=char."),
    "data.resume": Entry(3, "The input has changed since the output was started.", "Restore the old input, or leave --resume out."),
    "hub.no-dataset": Entry(3, "The hub has no such dataset, split or revision.", "Check the name; log in if the dataset is private."),
    # 4: network
    "network.fetch": Entry(4, "A download failed.", "Try again; HF_HUB_OFFLINE=1 uses only the cache."),
    "network.code": Entry(4, "The dataset needs to run its own code, which is not allowed.", "Use its Parquet version, or another dataset."),
    "network.content": Entry(4, "The downloaded content has the wrong hash, or is a web page.", "Try again later."),
    "network.archive": Entry(4, "The archive would write outside its folder, or expands to an excessive size.", "Do not use this archive."),
    # 5: runs, checkpoints, tokenizers and exports
    "run.missing": Entry(5, "There is no run in this folder.", "Use one of the runs in the message; `seq2seq train` makes one."),
    "run.damaged": Entry(5, "A file of the run is damaged.", "Restore it from a copy, or follow the hint."),
    "run.unsafe": Entry(5, "The run directory holds a symbolic link, a FIFO, a socket or a device.", "Replace it by a file or folder of its own."),
    "checkpoint.missing": Entry(5, "The checkpoint does not exist or is incomplete.", "Use one of the checkpoints in the message."),
    "checkpoint.damaged": Entry(5, "A file of the checkpoint is missing, truncated or modified.", "Use an older checkpoint."),
    "checkpoint.version": Entry(5, "The checkpoint was written by another version of seq2seq.", "Install that version, or update: git pull and pip install . in the clone."),
    "checkpoint.mismatch": Entry(5, "The checkpoint does not fit the model of the config.", "Use it with the config of its own run."),
    "checkpoint.unsafe": Entry(5, "The file is a pickle, which can execute code.", "Use a safetensors file, the format of seq2seq."),
    "tokenizer.missing": Entry(5, "There is no tokenizer in this folder.", "Give the folder of a run or of a tokenizer."),
    "tokenizer.damaged": Entry(5, "The tokenizer is damaged, or the file is not a tokenizer.", "Restore it from a copy, or use another run."),
    "tokenizer.swapped": Entry(5, "The tokenizer is not the one that the model was trained with.", "Restore the run's own tokenizer."),
    "export.missing": Entry(5, "The run has no such export.", "Make one: seq2seq export RUN."),
    "export.damaged": Entry(5, "The export is damaged or was made by another version.", "Export the run again."),
    "export.parity": Entry(5, "The export does not produce the same translations as the model.", "Report it, and use the run itself."),
    # 6: numerical failure
    "training.diverged": Entry(6, "The loss or a gradient is not a finite number.", "Reduce the learning rate, or increase the warm-up."),
    "model.not-a-number": Entry(6, "The model's output is not a number (NaN).", "Use another checkpoint, or --precision fp32."),
    # 7: disk and memory
    "disk.full": Entry(7, "The disk is full.", "Free some space, and run the same command again."),
    "disk.error": Entry(7, "The disk has a read or write error.", "Check the disk, and run the same command again."),
    "memory.training": Entry(7, "Training ran out of memory.", "Reduce training.batch_size."),
    "memory.translating": Entry(7, "Translation ran out of memory.", "Reduce --batch-size or --beam-size."),
    "memory.host": Entry(7, "The machine ran out of memory.", "Free some memory, raise ulimit -v, start fewer processes, or reduce batch sizes."),
    # 8: processes
    "worker.rank": Entry(8, "A training process died, hangs or cannot be reached.", "Run the same command again: it resumes."),
    "worker.loader": Entry(8, "A data-loading process died.", "Set training.num_workers=0 and data.num_processes=1."),
    "worker.translation": Entry(8, "A process that translates, scores or aligns died.", "Use --workers 1, or --threads 1."),
}
# fmt: on
