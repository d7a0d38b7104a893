"""Rows 40 to 45: whatever a server does, the command ends with the right bytes, or with exit 4 and one message."""

from __future__ import annotations

import email.message
import email.utils
import errno
import gzip
import hashlib
import io
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import tarfile
import time
import urllib.request
import warnings
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seq2seq.config.sources import HubSource, TextSource
from seq2seq.data import archives, fetch_url, hub, retry
from seq2seq.data.archives import check_archive
from seq2seq.data.cache import Inputs
from seq2seq.data.corpus import read_pairs
from seq2seq.data.files import read_lines
from seq2seq.errors import DataError, NetworkError, ResourceError, UsageError
from tests.cli.conftest import Outcome, run_command
from tests.faults.loopback import COMMIT, Loopback, loopback, pose_as_hub

LEFT = "".join(f"source {n} text\n" for n in range(20_000)).encode()
RIGHT = "".join(f"ziel {n} text\n" for n in range(20_000)).encode()
HASH = hashlib.sha256(LEFT).hexdigest()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(retry, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as running:
        running.plain = {"a.en": LEFT, "a.de": RIGHT}
        yield running


def url(server: Loopback, name: str = "a.en") -> str:
    return f"{server.address}/files/{name}"


def download(*arguments: object) -> Outcome:
    return run_command("data", "download", *arguments)


def fetched(server: Loopback, name: str = "a.en", sha256: str | None = None) -> bytes:
    """Download into the working folder."""
    return fetch_url.fetch(fetch_url.parse_address(url(server, name), sha256), Path(name)).read_bytes()


def prepare(*sources: object) -> Outcome:
    train = ",".join(str(source) for source in sources)
    return run_command("data", "prepare", f"data.train=[{train}]", "tokenizer.kind=word")


# Plain URLs


@pytest.mark.parametrize(
    ("output", "path"),
    [((), "data/a.en"), (("-o", "x/"), "x/a.en"), (("-o", "y"), "y/a.en"), (("-o", "z/corpus.en"), "z/corpus.en")],
)
def test_a_url_becomes_a_file_and_a_record(server: Loopback, output: tuple[str, ...], path: str) -> None:
    """The record says where the file came from, without the secrets of the address; a second call keeps the file."""
    for _ in range(2):
        outcome = download(f"{url(server)}?token=abcdefgh12345678", *output)
        assert (outcome.code, outcome.out) == (0, path + "\n"), outcome.err
    assert "was downloaded before" in outcome.err
    assert server.count("get") == 1
    assert Path(path).read_bytes() == LEFT
    record = json.loads(Path(path + ".json").read_text())
    assert datetime.fromisoformat(record.pop("time")).tzinfo is not None
    assert record == {"url": url(server), "bytes": len(LEFT), "sha256": HASH}
    assert names(Path(path).parent) == [Path(path).name, Path(path).name + ".json"]


def test_the_command_of_the_hint_works(server: Loopback) -> None:
    """A URL stood wherever a file can; whoever still writes one is shown the two steps."""
    server.plain["b.zip"] = packed_zip({"x/b.de": RIGHT})
    sources = f"{url(server)}?a=1&b=2#sha256={HASH}", url(server, "b.zip/x/b.de")
    names = []
    for source in sources:
        outcome = prepare(f"{{source: '{source}', target: a}}")
        assert outcome.code == 2
        assert f"{source} is an address, not a file" in outcome.err
        command, name = re.findall(r"hint: seq2seq (.*); then name (.*)\n", outcome.err)[0]
        assert run_command(*shlex.split(command)).code == 0
        names.append(name)
    outcome = prepare(f"{{source: {names[0]}, target: {names[1]}}}")
    assert outcome.code == 0, outcome.err
    assert "20,000" in outcome.out


def test_an_existing_file_is_not_overwritten(server: Loopback) -> None:
    Path("a.en").write_text("mine\n")
    outcome = download(url(server), "-o", "a.en")
    assert outcome.code == 2
    assert "a.en exists" in outcome.err
    assert Path("a.en").read_text() == "mine\n"


@pytest.mark.fault(40)
def test_a_closed_port() -> None:
    """Offline, or the wrong address: an error at once, with the place of the file and a hint."""
    start = time.monotonic()
    outcome = download("http://127.0.0.1:9/a.en")
    assert outcome.code == 4
    assert time.monotonic() - start < 5
    assert re.search(r"cannot download http://127\.0\.0\.1:9/a\.en: .*refused", outcome.err)
    assert "-> data/a.en" in outcome.err
    assert "hint: check address and network" in outcome.err
    assert "Traceback" not in outcome.err
    assert names(Path("data")) == []


@pytest.mark.fault(40)
def test_a_downloaded_file_needs_no_network(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetched(server) == LEFT
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetched(server) == LEFT
    with pytest.raises(NetworkError, match="offline"):
        fetched(server, "a.de")


@pytest.mark.fault(41)
def test_a_broken_connection_continues_by_range(server: Loopback) -> None:
    """Three cuts: each time the rest is requested, no byte twice."""
    server.plan["get"] = ["cut:100000", "cut:90000", "cut:70000"]
    assert fetched(server) == LEFT
    assert [asked for _, _, asked in server.seen] == [None, "bytes=100000-", "bytes=190000-", "bytes=260000-"]
    assert [name for name in names(Path()) if name != "cache"] == ["a.en", "a.en.json"]


@pytest.mark.fault(41)
def test_the_partial_file_outlives_the_command(server: Loopback) -> None:
    """Five tries end the command, not the download: the next one goes on where this one stopped."""
    server.plan["get"] = ["cut:120000", *["cut:0"] * 5]
    with pytest.raises(NetworkError, match=r"broke off after 120,000 bytes \(5 tries\)"):
        fetched(server)
    assert server.count("get") == 6
    server.seen.clear()
    assert fetched(server) == LEFT
    assert [asked for _, _, asked in server.seen] == ["bytes=120000-"]


@pytest.mark.fault(41)
def test_a_download_killed_at_any_time_goes_on(server: Loopback, tmp_path: Path) -> None:
    """kill -9 while bytes come in: what is on disk is kept, and half a file is never taken for a whole one."""
    server.plan["get"] = ["stall"]
    script = f"from seq2seq.data.download import download_url; download_url({url(server)!r}, 'a.en')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not list(tmp_path.glob(".partial-*.json")):
        time.sleep(0.02)
    time.sleep(0.1)
    with pytest.raises(UsageError, match="another process"):
        fetched(server)
    child.kill()
    child.wait()
    assert fetched(server) == LEFT


@pytest.mark.fault(41)
@pytest.mark.parametrize("fault", ["norange", "changed"])
def test_a_server_that_starts_over_or_has_another_file(server: Loopback, fault: str) -> None:
    """Halves of two versions of a file must never be put together."""
    server.plan["get"] = ["cut:100000", fault]
    assert fetched(server) == (bytes(reversed(LEFT)) if fault == "changed" else LEFT)


@pytest.mark.fault(42)
@pytest.mark.parametrize("option", [True, False])
def test_wrong_bytes_of_the_right_size(server: Loopback, option: bool) -> None:
    """A proxy or a bad disk flips a bit: with a hash it is noticed, and nothing is kept."""

    def attempt(sha256: str) -> Outcome:
        return download(url(server), "--sha256", sha256) if option else download(f"{url(server)}#sha256={sha256}")

    server.plan["get"] = ["flip"]
    outcome = attempt(HASH)
    assert outcome.code == 4
    assert f"expected SHA-256 {HASH}" in outcome.err
    assert names(Path("data")) == []
    assert attempt(HASH.upper()).code == 0
    assert Path("data/a.en").read_bytes() == LEFT
    outcome = attempt("0" * 64)
    assert outcome.code == 4
    assert f"found {HASH}" in outcome.err
    assert "hint: correct the hash" in outcome.err
    assert attempt("0" * 63).code == 2


@pytest.mark.fault(42)
def test_a_damaged_file_is_downloaded_again(server: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    content = fetched(server)
    for broken in (content[:-1], content[:50] + b"\0" + content[51:], b""):
        Path("a.en").write_bytes(broken)
        assert fetched(server) == LEFT
        assert "a.en is damaged" in capsys.readouterr().err


@pytest.mark.fault(42)
def test_a_web_page_with_status_200(server: Loopback) -> None:
    """The login page of a hotel's network would be trained on as a corpus."""
    server.plan["get"] = ["html"]
    outcome = download(url(server))
    assert outcome.code == 4
    assert "is a web page, not a file" in outcome.err
    assert names(Path("data")) == []
    server.plain["a.en"] = b"  <HTML><p>a page without a content type</p>"
    with pytest.raises(NetworkError, match="web page"):
        fetched(server)
    server.plain["a.html"] = b"<p>useless, but asked for</p>\n"
    assert fetched(server, "a.html") == server.plain["a.html"]


@pytest.mark.fault(42)
def test_a_damaged_gzip_file_is_not_kept(server: Loopback) -> None:
    server.plain["a.gz"] = gzip.compress(LEFT)[:-200]
    outcome = download(url(server, "a.gz"))
    assert outcome.code == 4
    assert "the file was removed" in outcome.err
    assert names(Path("data")) == []


@pytest.mark.fault(43)
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_tried_five_times(server: Loopback, status: int) -> None:
    server.plan["get"] = [str(status)] * 4
    assert fetched(server) == LEFT
    server.plan["get"] = [str(status)] * 9
    with pytest.raises(NetworkError, match=rf"127\.0\.0\.1:\d+ answers {status} \(5 tries\)"):
        fetched(server, "a.de")
    assert server.count("get") == 10


@pytest.mark.fault(43)
def test_retry_after_is_obeyed(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds or a date; an hour is not waited for."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    server.plan["get"] = ["429:7", f"503:{date}", "503:soon", "503:-3"]
    assert fetched(server) == LEFT
    assert waits[0] == 7
    assert 97 < waits[1] <= 100
    assert waits[2:] == [0.04, 0.08]
    server.plan["get"] = ["429:3600"]
    with pytest.raises(NetworkError, match="asks to wait 3,600 s"):
        fetched(server, "a.de")


@pytest.mark.fault(43)
@pytest.mark.parametrize("fault", ["stall", "slow"])
def test_a_silent_or_very_slow_server(server: Loopback, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """A server that keeps the connection open, silent or with a byte now and then, would hold a job for ever."""
    monkeypatch.setattr(fetch_url, "TIME_OUT_SECONDS", 0.2)
    server.plan["get"] = [fault] * 9
    start = time.monotonic()
    with pytest.raises(NetworkError, match=r"\(5 tries\)"):
        fetched(server)
    assert time.monotonic() - start < 8


@pytest.mark.fault(61)
@pytest.mark.parametrize("place", ["ftp://127.0.0.1:9/a", "file:///etc/passwd", "data:text/plain,a"])
def test_a_redirect_to_another_scheme_is_refused(server: Loopback, place: str) -> None:
    server.plan["get"] = [f"to:{place}"]
    outcome = download(url(server))
    assert outcome.code == 4
    assert re.search("redirect(s to an address of ftp|ion to url)", outcome.err, re.IGNORECASE)
    assert names(Path("data")) == []
    server.plan["get"] = [f"to:{url(server)}"]
    assert download(url(server)).code == 0


@pytest.mark.fault(61)
def test_credentials_stay_with_their_host() -> None:
    """A server could have the password of a proxy sent to another host by a redirect."""
    request = urllib.request.Request("https://one/a", headers={"Authorization": "a", "Proxy-Authorization": "b"})
    request.add_unredirected_header("Cookie", "c")
    request.add_header("Range", "bytes=1-")
    for place, kept in (("https://one/b", 3), ("https://two/a", 1), ("https://one:444/a", 1)):
        answer = io.BytesIO(), 302, "Found", email.message.Message(), place
        followed = fetch_url._SafeRedirects().redirect_request(request, *answer)
        assert followed is not None
        assert len(followed.headers) == kept


@pytest.mark.parametrize("status", ["404", "403", "410"])
def test_a_file_that_is_not_there(server: Loopback, status: str) -> None:
    server.plan["get"] = [status] * 9
    with pytest.raises(NetworkError, match=f"answers {status}"):
        fetched(server)
    assert server.count("get") == 1


@pytest.mark.parametrize("fault", ["drop", "endless"])
def test_broken_answers(server: Loopback, fault: str) -> None:
    server.plan["get"] = [fault] * 9
    with pytest.raises(NetworkError):
        fetched(server)


def test_a_file_of_unknown_length_and_an_empty_one(server: Loopback) -> None:
    server.plan["get"] = ["close"]
    assert fetched(server) == LEFT
    server.plain["empty"] = b""
    assert fetched(server, "empty") == b""


@pytest.mark.parametrize("name", ["http://", "http://[::1/a", "http://h:port/a", "http://u:p@h/a", "http://h/a#x"])
def test_malformed_addresses(name: str) -> None:
    assert download(name).code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("http://h/a", "-s", "en"), "-s belongs to a dataset of the hub"),
        (("mtdata:a-b-1-x-y", "--split", "train"), "--split belongs to a dataset of the hub"),
        (("some/where", "-s", "a", "-t", "b", "--sha256", "0" * 64), "--sha256 belongs to a URL"),
        (("some/where", "-s", "a"), "--target is missing"),
    ],
)
def test_options_of_another_kind_of_download(arguments: tuple[str, ...], message: str) -> None:
    outcome = download(*arguments)
    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ftp://host/a.en", "download the file by hand"),
        ("s3://bucket/a.en", "`seq2seq data download` fetches http:// and https://"),
        ("gs://bucket/a.zip/a.en", "download the file by hand"),
        ("file:///tmp/a.en", "name the file itself: /tmp/a.en"),
        ("hf://datasets/some/where/a.en", "{hub: ID,"),
    ],
)
def test_addresses_of_another_kind(name: str, hint: str) -> None:
    """`ftp://host/file` was looked for as a path, and the message spoke of a folder `ftp:/host`."""
    outcome = prepare(f"{{source: '{name}', target: b}}")
    assert outcome.code == 2
    assert f"{name} is an address, not a file on this machine  [usage.value]" in outcome.err
    assert hint in outcome.err


def test_a_file_whose_name_looks_like_an_address(tmp_path: Path) -> None:
    (tmp_path / "ab:").mkdir()
    (tmp_path / "ab:" / "x").write_text("a\n")
    assert list(read_lines("ab:/x")) == ["a"]


def test_a_full_disk_is_noticed_before_the_download(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_url.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(ResourceError, match="needed"):
        fetched(server)


def test_an_unwritable_folder(server: Loopback) -> None:
    Path("data").write_text("a file")
    outcome = download(url(server), "-o", "data/a.en")
    assert outcome.code == 2
    assert "cannot write" in outcome.err


# The hub


@pytest.fixture
def hubbed(server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    table = io.BytesIO()
    pq.write_table(pa.table({"en": ["a b"] * 2000, "de": [f"c {n}" for n in range(2000)]}), table)
    server.files = {"train.parquet": table.getvalue()}
    pose_as_hub(server, tmp_path / "hf", monkeypatch)
    return server


HUB = HubSource(hub="some/where", source="en", target="de")


def fetch_hub() -> int:
    return len(list(read_pairs(HUB)))


def prepare_hub() -> Outcome:
    return prepare("{hub: some/where, source: en, target: de}")


@pytest.mark.parametrize(
    ("plan", "code", "said"),
    [
        pytest.param({}, 0, "", id="well"),
        pytest.param({"api": ["503"] * 99}, 4, "answers 503 (5 tries)", id="busy", marks=pytest.mark.fault(43)),
        pytest.param(
            {"api": ["429:0"], "head": ["503"], "get": ["500"]}, 0, "", id="once", marks=pytest.mark.fault(43)
        ),
        pytest.param({"api": ["429:3600"]}, 4, "asks to wait 3,600 s", id="hour", marks=pytest.mark.fault(43)),
        pytest.param({"api": ["drop"], "head": ["drop"]}, 0, "", id="drop", marks=pytest.mark.fault(41)),
        pytest.param({"api": ["html"] * 9}, 4, "web page", id="page", marks=pytest.mark.fault(42)),
        pytest.param({"get": ["html"] * 9}, 4, "login page", id="page-file", marks=pytest.mark.fault(42)),
        pytest.param({"get": ["flip"] * 9}, 4, "expected SHA-256", id="flip", marks=pytest.mark.fault(42)),
        pytest.param({"get": ["404"] * 9}, 4, "404", id="gone", marks=pytest.mark.fault(40)),
        pytest.param({"head": ["404"] * 9}, 4, "cannot fetch", id="no-head", marks=pytest.mark.fault(40)),
    ],
)
def test_the_hub(hubbed: Loopback, plan: dict[str, list[str]], code: int, said: str) -> None:
    """Each fault ends with exit 4 and one message, or is mended by another try."""
    hubbed.plan = {kind: list(faults) for kind, faults in plan.items()}
    outcome = prepare_hub()
    assert outcome.code == code, outcome.err
    assert said in outcome.err
    assert outcome.err.count("error:") == (code != 0)
    assert "Traceback" not in outcome.err
    if code == 0:
        assert "2,000" in outcome.out


@pytest.mark.fault(41)
def test_the_hub_breaks_off(hubbed: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library asks for the rest by Range, in steps of what it reads at once."""
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hubbed.plan["get"] = ["cut:4000", "cut:3000"]
    assert fetch_hub() == 2000
    assert [wanted for kind, _, wanted in hubbed.seen if kind == "get"][1:] == ["bytes=4000-", "bytes=7000-"]


def test_a_hub_folder_of_another_user(hubbed: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container HOME may be root's; the hint was "it has: [Errno 13]"."""

    def refused(*_: object, **__: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", "/home/other/.cache/huggingface/token")

    monkeypatch.setattr("datasets.load_dataset_builder", refused)
    with pytest.raises(UsageError, match=r"cannot use /home/other/\.cache/huggingface/token") as caught:
        fetch_hub()
    assert "HF_HOME" in caught.value.hint


@pytest.mark.fault(42)
def test_a_file_of_the_hub_with_wrong_bytes_is_removed(hubbed: Loopback, tmp_path: Path) -> None:
    """The libraries compare sizes only: the bytes of a bad proxy would be trained on, now and ever after."""
    hubbed.plan["get"] = ["flip"]
    with pytest.raises(NetworkError, match=r"(?s)wrong bytes.*train\.parquet"):
        fetch_hub()
    assert not [path for path in (tmp_path / "hf" / "hub").rglob("*") if path.is_file() and path.stat().st_size > 1000]
    assert fetch_hub() == 2000


@pytest.mark.fault(42)
@pytest.mark.parametrize("fault", ["flip", "changed"])
def test_a_wrong_description_is_noticed(hubbed: Loopback, fault: str) -> None:
    """README.md tells the library which files are the split; one that it cannot read stayed in its cache for ever."""
    hubbed.files["README.md"] = b"---\nlicense: mit\n---\n"
    hubbed.plan["get"] = [fault]
    with pytest.raises(NetworkError, match=r"(?s)git hash.*README\.md"):
        fetch_hub()
    assert fetch_hub() == 2000


@pytest.mark.fault(43)
def test_the_hub_says_nothing(hubbed: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library waits without limit for some answers."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    monkeypatch.setattr(hub, "TIME_OUT_SECONDS", 0.1)
    hubbed.plan["api"] = ["stall"] * 9
    start = time.monotonic()
    outcome = prepare_hub()
    assert outcome.code == 4
    assert "does not answer" in outcome.err
    assert time.monotonic() - start < 10


@pytest.mark.fault(40)
def test_a_hub_that_is_gone_after_the_first_time(hubbed: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was prepared is used again with a warning, for a train without network or a hub that is down."""
    assert prepare_hub().code == 0
    hubbed.plan["api"] = ["503"] * 99
    outcome = prepare_hub()
    assert outcome.code == 0
    assert "cannot reach the hub" in outcome.err
    assert "using prepared data" in outcome.err


@pytest.mark.fault(45)
def test_a_dataset_of_the_hub_that_needs_code(hubbed: Loopback, tmp_path: Path) -> None:
    """Code from the hub is never run: the canary stays away."""
    canary = tmp_path / "canary"
    hubbed.files = {"where.py": f"open({str(canary)!r}, 'w')\n".encode()}
    outcome = prepare_hub()
    assert outcome.code == 4
    assert "refused: some/where is a dataset that needs to run its own code" in outcome.err
    assert not canary.exists()


@pytest.mark.fault(44)
@pytest.mark.parametrize("members", [["train.csv"], []])
@pytest.mark.parametrize("evil", ["../../evil.csv", "/tmp/evil.csv"])
def test_a_hostile_archive_of_the_hub(hubbed: Loopback, tmp_path: Path, evil: str, members: list[str]) -> None:
    """The library would leave out such a member without a word and train on the rest, or find no data at all."""
    csv = b"en,de\na,b\n"
    hubbed.files = {"train.zip": packed_zip(dict.fromkeys([*members, evil], csv))}
    outcome = prepare_hub()
    assert outcome.code == 4
    assert f"refused: {evil}: " in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.rglob("evil.csv"))


@pytest.mark.fault(44)
def test_a_harmless_archive_of_the_hub(hubbed: Loopback) -> None:
    hubbed.files = {"train.zip": packed_zip({"train.csv": b"en,de\na,b\nc,d\n"})}
    assert list(read_pairs(HUB)) == [("a", "b"), ("c", "d")]
    assert COMMIT in Inputs(Path("nowhere")).facts(HUB)["revision"]


# Archives


def packed_zip(members: dict[str, bytes], modes: dict[str, int] | None = None) -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        for name, data in members.items():
            info = zipfile.ZipInfo(name.rstrip("*"))
            info.external_attr = (modes or {}).get(name, 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return content.getvalue()


def packed_tar(members: dict[str, bytes | tarfile.TarInfo], packing: str = "gz") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=f"w:{packing}") as archive:
        for name, data in members.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name.rstrip("*"))
            if isinstance(data, bytes):
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return content.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


GOOD = {"train.en": b"a\nb\n", "./x/train.de": b"c\nd\n"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.zip", packed_zip(GOOD)),
        ("a.tar", packed_tar(GOOD, "")),
        ("a.tar.gz", packed_tar(GOOD)),
        ("a.tgz", packed_tar(GOOD)),
        ("a.tar.xz", packed_tar(GOOD, "xz")),
        ("a.tar.bz2", packed_tar(GOOD, "bz2")),
    ],
)
def test_members_are_read_where_they_lie(tmp_path: Path, name: str, content: bytes) -> None:
    """An archive in a path is like a folder, and is never unpacked to disk."""
    (tmp_path / name).write_bytes(content)
    source = TextSource(source=str(tmp_path / name / "train.en"), target=str(tmp_path / name / "x/train.de"))
    assert list(read_pairs(source)) == [("a", "c"), ("b", "d")]
    assert names(tmp_path) == [name]
    with pytest.raises(DataError, match=r"no file tain.en in .*\n.*\n.*train\.en"):
        list(read_lines(tmp_path / name / "tain.en"))
    with pytest.raises(DataError, match=rf"is an archive.*\n.*\n.*{re.escape(name)}/train\.en"):
        list(read_lines(tmp_path / name))
    with pytest.raises(DataError, match="no such file"):
        list(read_lines(tmp_path / ("b" + name) / "train.en"))


def test_links_inside_an_archive_are_harmless(tmp_path: Path) -> None:
    """An archive with `latest -> v2`, or with one file under two names, was refused."""
    members = {
        **GOOD,
        "a": special("x/a.en", tarfile.SYMTYPE, "../train.en"),
        "b": special("b.de", tarfile.LNKTYPE, "x/train.de"),
        "c": special("latest", tarfile.SYMTYPE, "./x"),
        "d": special("dangling", tarfile.SYMTYPE, "nowhere"),
    }
    (tmp_path / "a.tgz").write_bytes(packed_tar(members))
    check_archive(tmp_path / "a.tgz")
    source = TextSource(source=f"{tmp_path}/a.tgz/x/a.en", target=f"{tmp_path}/a.tgz/b.de")
    assert list(read_pairs(source)) == [("a", "c"), ("b", "d")]


def test_the_record_names_the_member(tmp_path: Path) -> None:
    """It showed size and hash of the whole archive for each of its files; another member would make all anew."""
    where = tmp_path / "a.zip"
    where.write_bytes(packed_zip({"train.en": LEFT, "train.de": RIGHT}))
    for more in ({}, {"notes.txt": b"new"}):
        where.write_bytes(packed_zip({"train.en": LEFT, "train.de": RIGHT, **more}))
        facts = Inputs(tmp_path / "cache").facts(TextSource(source=f"{where}/train.en", target=f"{where}/train.de"))
        assert [(file["bytes"], file["sha256"]) for file in facts["files"]] == [
            (len(text), hashlib.sha256(text).hexdigest()) for text in (LEFT, RIGHT)
        ]
    where.write_bytes(packed_zip({"train.en": LEFT})[:-200_000])
    with pytest.raises(DataError, match="archive"):
        Inputs(tmp_path / "cache").file(f"{where}/train.en")


HOSTILE_ZIPS: dict[str, tuple[bytes, str]] = {
    "dots": (packed_zip({**GOOD, "../evil": b"x"}), "../evil"),
    "dots-inside": (packed_zip({**GOOD, "x/../../evil": b"x"}), "x/../../evil"),
    "backslashes": (packed_zip({**GOOD, "..\\evil": b"x"}), "..\\evil"),
    "absolute": (packed_zip({**GOOD, "/etc/evil": b"x"}), "/etc/evil"),
    "drive": (packed_zip({**GOOD, "C:/evil": b"x"}), "C:/evil"),
    "symlink": (packed_zip({**GOOD, "evil": b"/etc/passwd"}, {"evil": stat.S_IFLNK | 0o777}), "evil: a link"),
    "device": (packed_zip({**GOOD, "evil": b""}, {"evil": stat.S_IFCHR | 0o666}), "evil: neither"),
    "bomb": (packed_zip({**GOOD, "evil": b"\0" * 20_000_000}), "evil: with it"),
    "twice": (packed_zip({**GOOD, "train.en*": b"other\n"}), "train.en: there twice"),
    "terminal": (packed_zip({**GOOD, "\x1b]0;evil\x07/../x": b""}), "\\x1b]0;evil\\x07/../x"),
}
HOSTILE_TARS: dict[str, tuple[bytes, str]] = {
    "dots": (packed_tar({**GOOD, "../evil": b"x"}), "../evil"),
    "absolute": (packed_tar({**GOOD, "/etc/evil": b"x"}), "/etc/evil"),
    "symlink": (
        packed_tar({**GOOD, "l": special("evil", tarfile.SYMTYPE, "/etc/passwd")}),
        "evil: a link to /etc/passwd",
    ),
    "hardlink": (packed_tar({**GOOD, "l": special("evil", tarfile.LNKTYPE, "../../x")}), "evil: a link to ../../x"),
    "climbing": (packed_tar({**GOOD, "l": special("x/evil", tarfile.SYMTYPE, "../../x")}), "x/evil: a link to ../../x"),
    "backslash-link": (packed_tar({**GOOD, "l": special("evil", tarfile.SYMTYPE, "..\\x")}), "evil: a link to ..\\x"),
    "through": (
        packed_tar({**GOOD, "l": special("l", tarfile.SYMTYPE, "x"), "m": special("l/evil", tarfile.SYMTYPE, "..")}),
        "l/evil: lies behind a link",
    ),
    "device": (packed_tar({**GOOD, "d": special("evil", tarfile.CHRTYPE)}), "evil: neither"),
    "fifo": (packed_tar({**GOOD, "f": special("evil", tarfile.FIFOTYPE)}), "evil: neither"),
    "bomb": (packed_tar({**GOOD, "evil": b"\0" * 20_000_000}), "evil: with it"),
    "twice": (packed_tar({**GOOD, "train.en*": b"other\n"}), "train.en: there twice"),
    "surrogate": (packed_tar({**GOOD, "\udcff/../evil": b""}), "\\udcff/../evil"),
}


@pytest.mark.fault(44)
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [pytest.param("a.zip", *made, id=f"zip-{kind}") for kind, made in HOSTILE_ZIPS.items()]
    + [pytest.param("a.tar.gz", *made, id=f"tar-{kind}") for kind, made in HOSTILE_TARS.items()],
)
def test_hostile_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, said: str
) -> None:
    """Whoever unpacks a corpus may get a file in ~/.ssh with it. The member is named, and not one is read."""
    monkeypatch.setattr(archives, "_HARMLESS_BYTES", 1 << 20)
    (tmp_path / name).write_bytes(content)
    outcome = prepare(f"{{source: {tmp_path / name}/train.en, target: {tmp_path / name}/x/train.de}}")
    assert outcome.code == 4, outcome.err
    assert f"refused: {said}" in outcome.err
    assert names(tmp_path) in ([name], [name, "cache"])
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.fault(44)
def test_a_header_that_asks_for_gigabytes(tmp_path: Path) -> None:
    """A few kilobytes of gzip can hold a header of gigabytes, which would be read into memory whole."""
    info = special("evil", tarfile.XHDTYPE)
    info.size = 1 << 33
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 4_000_000))
    with pytest.raises(DataError, match="header of 8,589,934,592 bytes"):
        list(read_lines(tmp_path / "a.tar.gz" / "train.en"))


@pytest.mark.fault(44)
@pytest.mark.parametrize("pack", [gzip.compress, pytest.param(lambda data: __import__("lzma").compress(data), id="xz")])
def test_one_packed_file_that_is_a_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(archives, "_HARMLESS_BYTES", 1 << 20)
    (tmp_path / "a.csv.gz").write_bytes(pack(b"\0" * 6_000_000))
    with pytest.raises(NetworkError, match="a bomb"):
        check_archive(tmp_path / "a.csv.gz")
    (tmp_path / "a.csv.gz").write_bytes(pack(LEFT))
    check_archive(tmp_path / "a.csv.gz")


def test_archives_with_another_inside_or_locked(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(packed_zip({"b.zip": packed_zip(GOOD), "c.gz": b"", **GOOD}))
    for member, said in (("b.zip", "compressed again"), ("b.zip/train.en", "no file"), ("c.gz", "compressed again")):
        with pytest.raises(DataError, match=said):
            list(read_lines(tmp_path / "a.zip" / member))
    locked = bytearray(packed_zip({"train.en": b"a\n"}))
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        locked[locked.index(mark) + place] |= 1
    (tmp_path / "l.zip").write_bytes(locked)
    with pytest.raises(DataError, match="encrypted"):
        list(read_lines(tmp_path / "l.zip" / "train.en"))


@pytest.mark.parametrize(("name", "content"), [("a.zip", packed_zip(GOOD)), ("a.tar.gz", packed_tar(GOOD))])
def test_damaged_archives(tmp_path: Path, name: str, content: bytes) -> None:
    """Cut or flipped anywhere: an error with a place, or the right lines (a flip may hit what nobody reads)."""
    for place in range(0, len(content), 7):
        for broken in (content[:place], content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]):
            (tmp_path / name).write_bytes(broken)
            try:
                lines = list(read_lines(tmp_path / name / "train.en"))
            except (DataError, NetworkError) as error:
                told = error.where
            else:
                told = lines == ["a", "b"]
            assert told, place
