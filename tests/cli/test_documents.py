"""Every command, config and Python example of the README and of docs/ runs, in the order in which it is read.

A server that a document starts runs to the end of the document, and its curl commands go to it.

A block under the comment `<!-- not run: REASON -->` is only checked for commands and options that exist.
"""

from __future__ import annotations

import fcntl
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from seq2seq.cli.main import app
from seq2seq.config import load_config
from tests.children import Child
from tests.cli.conftest import SHORT, Runner
from tests.cli.conftest import commands as parsers
from tests.conftest import shared_between_processes

ROOT = Path(__file__).parents[2]
EXECUTED = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS = [*EXECUTED, ROOT / "CONTRIBUTING.md", *ROOT.glob("configs/*.md"), *ROOT.glob("scripts/*/*.md")]
# Settings that make a training short; the model's kind is the command's own affair.
QUICK = [
    *SHORT,
    *(f"model.{key}" for key in ("hidden_size=32", "encoder_layers=1", "decoder_layers=1")),
    "data.holdout=5",
    "training.max_steps=4",
    "training.validate_every=4",
    "training.schedule.warmup_steps=1",
    "decoding.max_length_ratio=0.2",
]
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


class Block(NamedTuple):
    """A code block of a document."""

    language: str
    text: str
    runs: bool
    """Whether its commands can run in a test."""


def blocks(document: Path, *languages: str) -> list[Block]:
    found = BLOCK.finditer(document.read_text(encoding="utf-8"))
    return [Block(b["language"], b["text"], b["reason"] is None) for b in found if b["language"] in languages]


def commands(block: Block) -> list[str]:
    """The lines of a shell block, without comments."""
    lines = [line.partition("  #")[0].strip() for line in block.text.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def desk(corpus: Path, tmp_path_factory: pytest.TempPathFactory, seq2seq: Runner) -> Path:
    """A folder as a reader of docs/ has it: a corpus, a config, a trained run. Made once for all processes."""
    shared = shared_between_processes(tmp_path_factory, "documents")
    with shared.with_suffix(".lock").open("w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if shared.exists():
            return shared
        folder = tmp_path_factory.mktemp("desk")
        lay_out(folder, corpus)
        patch.chdir(folder)
        for command in (
            "init --source corpus.en --target corpus.de mine.yaml",
            "train mine.yaml",
            "translate runs/mine input.en -o output.de",
        ):
            run(seq2seq, f"seq2seq {command}")
        shutil.copytree("runs/mine", "runs/second", symlinks=True)  # the same vocabulary, for ensembles
        folder.rename(shared)
    return shared


def lay_out(folder: Path, corpus: Path) -> None:
    """The files that the documents name."""
    for name, beginning in (("corpus.en", "input.en"), ("corpus.de", "reference.de"), ("corpus.de", "second.de")):
        shutil.copy(corpus / name, folder / name)
        lines = (corpus / name).read_text(encoding="utf-8").split("\n")[:5]
        (folder / beginning).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for name, text in (
        ("terms.tsv", "tea\tTee\n"),
        ("page.html", "<p>I am <b>here</b>.</p>\n"),
        ("table.csv", "id,text\n1,I am here.\n"),
        (
            "strings.xliff",
            '<xliff version="1.2"><file><trans-unit><source>I am here.</source></trans-unit></file></xliff>',
        ),
    ):
        (folder / name).write_text(text, encoding="utf-8")


def run(seq2seq: Runner, command: str) -> None:
    """Run a line such as `echo TEXT | seq2seq A < FILE`; trainings are made short."""
    stdin = b""
    for part in command.split(" | "):
        words = shlex.split(part)
        if words[0] == "echo":
            stdin = " ".join(words[1:]).encode() + b"\n"
            continue
        if "<" in words:
            stdin = Path(words.pop()).read_bytes()
            words.remove("<")
        assert words[0] == "seq2seq", command
        # What the command sets itself stays.
        own = {word.partition("=")[0] for word in words}
        is_gru = "model.kind=gru" in words
        kind = ["model.embedding_size=32"] if is_gru else ["model.kind=transformer", "model.ff_size=64"]
        quick = [setting for setting in [*kind, *QUICK] if setting.partition("=")[0] not in own]
        outcome = seq2seq(*words[1:], *(quick if words[1] in ("train", "data") else []), stdin=stdin)
        assert outcome.code == 0, f"{command}\n{outcome.err}"
        stdin = outcome.out.encode()


class Servers:
    """The servers that a document starts by `seq2seq serve RUN &`, and its curl commands."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._address = ""

    def start(self, command: str) -> None:
        words = [*shlex.split(command.removesuffix("&"))[1:], "--port", "0", "--workers", "1"]
        child = self._stack.enter_context(
            Child(*words, folder=Path("server"), environment={"NUMBA_DISABLE_JIT": "1"})  # compiling takes long
        )
        child.wait_for(lambda: child.out.endswith("\n"))
        self._address = child.out.strip()

    def curl(self, command: str) -> None:
        if shutil.which("curl") is None:
            return
        words = [word.replace("http://127.0.0.1:5000", self._address) for word in shlex.split(command)]
        outcome = subprocess.run([*words, "-sSf"], capture_output=True, text=True)
        assert outcome.returncode == 0, f"{command}\n{outcome.stderr}{outcome.stdout}"

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def servers() -> Iterator[Servers]:
    started = Servers()
    yield started
    started.close()


@pytest.mark.slow
@pytest.mark.usefixtures("kernels")  # `doctor` loads them
@pytest.mark.parametrize("document", EXECUTED, ids=name_of)
def test_documents_run_in_order(
    document: Path,
    corpus: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seq2seq: Runner,
    servers: Servers,
) -> None:
    if document.name == "README.md":
        lay_out(tmp_path, corpus)
    else:
        shutil.copytree(request.getfixturevalue("desk"), tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    if "seq2seq init" in document.read_text(encoding="utf-8"):
        Path("mine.yaml").unlink(missing_ok=True)
    for block in blocks(document, "sh", "python"):
        if block.language == "python":
            exec(compile(block.text, str(document), "exec"), {})
            continue
        for command in commands(block):
            if block.runs and command.startswith("curl "):
                servers.curl(command)
            elif block.runs and command.endswith("&"):
                servers.start(command)
            elif block.runs and "seq2seq" in command:
                run(seq2seq, command)
    if document.name == "README.md":
        assert Path("output.de").read_text().count("\n") == 5


@pytest.mark.parametrize("document", EXECUTED, ids=name_of)
def test_configs_in_documents_are_valid(document: Path, tmp_path: Path) -> None:
    for block in blocks(document, "yaml"):
        assert isinstance(yaml.safe_load(block.text), dict)
        (tmp_path / "config.yaml").write_text(block.text, encoding="utf-8")
        load_config([tmp_path / "config.yaml"])


def fault_of(command: str) -> str | None:
    """What a command that is not run names and does not exist."""
    words = shlex.split(command)
    match words[0]:
        case "torchrun":
            words = words[words.index("-m") + 1 :]
        case "pip" | "pre-commit" | "source" | "curl":
            return None
        case script if "/" in script:
            return None if (ROOT / script).is_file() else f"no such script: {script}"
    if words[0] != "seq2seq":
        return f"no command of ours: {words[0]}"
    found: Any = parsers(app)
    rest = words[1:]
    while hasattr(found, "commands"):  # a group
        name = rest.pop(0)
        if name not in found.commands:
            return f"no such command: {name}"
        found = found.commands[name]
    options = {option for parameter in found.params for option in parameter.opts if option.startswith("-")}
    for word in rest:
        if word.startswith("-") and word.partition("=")[0] not in {*options, "-"}:
            return f"no such option: {word}"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_commands_that_are_not_run_exist(document: Path) -> None:
    for block in blocks(document, "sh"):
        for command in commands(block):
            if document not in EXECUTED or not block.runs or "seq2seq" not in command:
                assert fault_of(command) is None, command


@pytest.mark.parametrize(
    "command",
    ["seq2seq data fetch x", "seq2seq translate runs/mine --beams 3", "scripts/absent", "torchrun -m seq2seq learn"],
)
def test_a_command_that_does_not_exist_is_found(command: str) -> None:
    assert fault_of(command)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_documents_name_what_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        name, _, heading = target.partition("#")
        if name.startswith("http"):
            continue
        file = document.parent / name if name else document
        assert file.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings], target
    for name in re.findall(r"(?<![\w./])(?:scripts|configs|docs)/[\w./-]*\w", text):
        assert (ROOT / name).exists() or (document.parent / name).exists(), name


def test_the_map_names_every_folder() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = re.findall(r"^      (\w+)/ ", text, flags=re.MULTILINE)
    packages = [path.parent.name for path in (ROOT / "src" / "seq2seq").glob("*/__init__.py")]
    assert sorted(folders) == sorted(packages)


def test_exit_codes_are_those_of_the_documents() -> None:
    from seq2seq import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.UserError)]
    assert {kind.exit_code for kind in kinds} == {2, 3, 4, 5, 6, 7, 8}
    section = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8").partition("## Exit codes")[2].partition("##")[0]
    assert re.findall(r"^\| (\d) \|", section, flags=re.MULTILINE) == list("012345678")


def test_scores_of_the_readme_are_those_of_the_experiments() -> None:
    rows = "\n".join(re.findall(r"^\| .*", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    scores = set(re.findall(r"\b\d+\.\d\d\b", rows))
    assert len(scores) >= 6
    assert scores <= set(re.findall(r"\b\d+\.\d\d\b", (ROOT / "configs" / "README.md").read_text(encoding="utf-8")))
