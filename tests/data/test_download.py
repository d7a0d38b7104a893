"""Hub datasets, read through the library from local Parquet; corpora of mtdata through a stand-in of the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled
from tests.cli.conftest import run_command
from tests.faults.loopback import Loopback, loopback

from seq2seq.config.settings import DataSettings, TokenizerSettings
from seq2seq.config.sources import HubSource
from seq2seq.data import hub as hub_module
from seq2seq.data.corpus import read_pairs
from seq2seq.data.download import download_hub
from seq2seq.data.hub import hub_revision, load_hub
from seq2seq.data.prepare import prepare
from seq2seq.errors import DataError, NetworkError

PAIRS = [
    ("a b", "x y"),
    ("line\nbreak", "Zeilen\r\nUmbruch"),
    ("two\u2028halves", "zwei\u0085Hälften"),
    ("", "leer"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")


def hub(folder: Path, nested: bool, **more: str) -> HubSource:
    rows = [{"en": left, "de": right} for left, right in PAIRS]
    table = pa.Table.from_pylist([{"id": n, "translation": row} for n, row in enumerate(rows)] if nested else rows)
    (folder / "set").mkdir(exist_ok=True)
    for split in ("train", "test"):
        pq.write_table(table, folder / "set" / f"{split}.parquet")
    return HubSource(**{"hub": str(folder / "set"), "source": "en", "target": "de", **more})


@pytest.mark.parametrize("nested", [False, True])
def test_flat_and_nested_columns(tmp_path: Path, nested: bool) -> None:
    one_line = [tuple(side.replace("\r\n", " ").replace("\n", " ") for side in pair) for pair in PAIRS]
    assert list(read_pairs(hub(tmp_path, nested))) == one_line
    reverse = hub(tmp_path, nested, source="translation.de" if nested else "de", target="en", split="test")
    assert list(read_pairs(reverse)) == [(right, left) for left, right in one_line]


def test_download_writes_line_for_line(tmp_path: Path) -> None:
    files = download_hub(hub(tmp_path, nested=True), tmp_path / "out")
    assert [path.name for path in files] == ["train.en", "train.de", "train.json"]
    assert files.source.read_bytes() == "a b\nline break\ntwo\u2028halves\n\n".encode()
    assert files.target.read_bytes() == "x y\nZeilen Umbruch\nzwei\u0085Hälften\nleer\n".encode()
    facts = json.loads(files.record.read_text())
    assert (facts["pairs"], facts["newlines_replaced"], facts["split"]) == (4, 2, "train")
    assert facts["files"]["train.en"]["bytes"] == files.source.stat().st_size
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "train.de",
        "train.en",
        "train.json",
    ]


def test_unknown_names_list_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)no column 'eng'.*translation\.de.*id"):
        load_hub(hub(tmp_path, nested=True, source="eng"))
    with pytest.raises(DataError, match=r"(?s)dev.*test"):
        load_hub(hub(tmp_path, nested=True, split="dev"))
    with pytest.raises(DataError, match="default"):
        load_hub(hub(tmp_path, nested=True, config="de-en"))
    with pytest.raises(DataError, match="not text"):
        list(read_pairs(hub(tmp_path, nested=True, source="id")))


@pytest.mark.fault(45)
def test_a_dataset_with_code_is_refused(tmp_path: Path) -> None:
    """Code from the hub is never run: the canary stays away."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "code.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\n")
    with pytest.raises(NetworkError, match="refused"):
        load_hub(HubSource(hub=str(folder / "code.py"), source="a", target="b"))
    assert not (tmp_path / "canary").exists()


def test_a_changed_local_dataset_is_noticed(tmp_path: Path) -> None:
    source = hub(tmp_path, nested=False)
    before = hub_revision(source)
    assert hub_revision(hub(tmp_path, nested=False)) == before
    assert hub_revision(hub(tmp_path, nested=True)) != before


def test_prepare_from_a_dataset(tmp_path: Path) -> None:
    prepared = prepare(
        DataSettings(train=(hub(tmp_path, nested=True),)),
        TokenizerSettings(kind="word"),
        cache=tmp_path / "c",
    )
    assert prepared.report.as_dict()["empty"] == 1
    assert len(prepared.train) == 3
    assert prepared.record["inputs"]["train"][0]["revision"].startswith("local:")


def test_a_revision_is_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's answer is what is recorded and loaded, not the name of a branch that moves."""
    seen = {}

    class Api:
        def dataset_info(self, name: str, revision: str | None, timeout: float) -> object:
            return type("Info", (), {"sha": "c" * 40})

    def load(name: str, config: str | None, revision: str) -> object:
        seen["revision"] = revision
        raise OfflineModeIsEnabled("far away")

    monkeypatch.setattr(hub_module.huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(hub_module.datasets, "load_dataset_builder", load)
    source = HubSource(hub="some/where", source="a", target="b", revision="main")
    assert hub_revision(source) == "c" * 40
    assert hub_revision(source.model_copy(update={"revision": "d" * 40})) == "d" * 40
    with pytest.raises(NetworkError):
        load_hub(source)
    assert seen["revision"] == "c" * 40


@pytest.mark.fault(40)
@pytest.mark.parametrize("variables", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}])
def test_an_unreachable_hub(tmp_path: Path, variables: dict[str, str]) -> None:
    script = (
        "from seq2seq.config.sources import HubSource\nfrom seq2seq.data.hub import load_hub\n"
        "from seq2seq.errors import NetworkError\n"
        "try: load_hub(HubSource(hub='some/where', source='a', target='b'))\n"
        "except NetworkError as error: print(error)\n"
    )
    environment = {
        **os.environ,
        **variables,
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert "cannot fetch some/where" in done.stdout
    assert str(tmp_path) in done.stdout
    assert "HF_HUB_OFFLINE=1" in done.stdout
    assert "Traceback" not in done.stderr


MTDATA = {
    "__init__.py": "__version__ = '9.9'\n",
    "entry.py": """
class DatasetId:
    def __init__(self, parts): self.parts, self.langs = parts, tuple(parts[3:])
    def __hash__(self): return hash(tuple(self.parts))
    def __eq__(self, other): return self.parts == other.parts
    @classmethod
    def parse(cls, text): return cls(text.split('-'))
""",
    "index.py": """
import os
from mtdata.entry import DatasetId
class Entry:
    url, in_ext = os.environ['STUB_URL'], None
INDEX = {DatasetId.parse('Group-name-1-eng-deu'): Entry()}
""",
    "cache.py": """
class Cache:
    def __init__(self, root): self.root = root
    def get_entry(self, entry): return self.download(entry.url, self.root / 'host' / 'file.tsv', entry=entry)
    def download(self, url, save_at, timeout=(5, 10), entry=None): raise AssertionError('its own download')
""",
    "parser.py": """
class Parser:
    def __init__(self, path, ext, ent): self.path = path
    def read_segs(self, show_pbar): return (line.split('\\t') for line in self.path.read_text().splitlines())
""",
}


@pytest.fixture
def mtdata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A package that offers what we use of mtdata 0.5, and a server with the file of its only corpus."""
    (tmp_path / "packages" / "mtdata").mkdir(parents=True)
    for name, text in MTDATA.items():
        (tmp_path / "packages" / "mtdata" / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("seq2seq.data.retry._FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.delenv("MTDATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with loopback() as server:
        server.plain = {"file.tsv": b"a dog\tein Hund\na cat\teine Katze\n"}
        monkeypatch.setenv("STUB_URL", f"{server.address}/files/file.tsv?token=abcdefgh12345678")
        yield server
    for name in [name for name in sys.modules if name.split(".")[0] == "mtdata"]:
        del sys.modules[name]
    os.environ.pop("MTDATA", None)


def test_a_corpus_of_mtdata(mtdata: Loopback, tmp_path: Path) -> None:
    """The index and the formats are mtdata's; bytes come through our download, which waits and continues."""
    (tmp_path / "mtdata_evil.py").write_text("open('canary', 'w')\n")  # mtdata would import it from the working folder
    mtdata.plan["get"] = ["503:0", "cut:5"]
    outcome = run_command("data", "download", "mtdata:Group-name-1-eng-deu", "-o", "out")
    assert outcome.code == 0, outcome.err
    assert Path("out/Group-name-1-eng-deu.eng").read_bytes() == b"a dog\na cat\n"
    assert Path("out/Group-name-1-eng-deu.deu").read_bytes() == b"ein Hund\neine Katze\n"
    record = json.loads(Path("out/Group-name-1-eng-deu.json").read_text())
    assert (record["mtdata"], record["version"], record["pairs"]) == ("Group-name-1-eng-deu", "9.9", 2)
    assert record["url"] == f"{mtdata.address}/files/file.tsv"
    assert outcome.out.splitlines()[0].endswith("Group-name-1-eng-deu.eng")
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [("Group-other-1-eng-deu", 3, "knows no corpus"), ("name", 2, "not the id"), ("Group-name-1-eng-deu", 4, "404")],
)
def test_faults_with_mtdata(mtdata: Loopback, name: str, code: int, message: str) -> None:
    mtdata.plain = {}
    outcome = run_command("data", "download", f"mtdata:{name}")
    assert outcome.code == code
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_mtdata_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MTDATA", str(tmp_path / "mtdata"))
    monkeypatch.setitem(sys.modules, "mtdata", None)
    outcome = run_command("data", "download", "mtdata:Group-name-1-eng-deu")
    assert outcome.code == 2
    assert "pip install '.[mtdata]'" in outcome.err
