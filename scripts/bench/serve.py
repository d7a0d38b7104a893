"""Throughput and response times of `seq2seq serve`, one client against many, and memory over a soak.

    python scripts/bench/serve.py RUN                          # 1 and 32 clients
    python scripts/bench/serve.py RUN --soak 10                # ten minutes of mixed requests, memory each minute

Each client sends its next request when the last one is answered, over a connection of its own. A request is one
sentence of 20 words, no two of which are equal; the words are those of the run's held-out text, in order. Server and
clients share the machine. Options after `--` go to the server.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

WORDS = 20


def sentences(run: Path, count: int) -> list[str]:
    """Sentences of 20 words, cut from the held-out source at different places."""
    words = (run / "valid.source").read_text(encoding="utf-8").split()
    step = max(1, (len(words) - WORDS) // count)
    if len(words) < WORDS + count:
        sys.exit(f"{run}/valid.source has too few words for {count} different sentences: fewer --requests")
    return [" ".join(words[place * step : place * step + WORDS]) for place in range(count)]


@contextmanager
def server(run: Path, options: list[str]) -> Iterator[tuple[str, int, int]]:
    """Host, port and process of a server."""
    command = [sys.executable, "-m", "seq2seq", "serve", str(run), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    host, port = process.stdout.readline().strip().removeprefix("http://").split(":")
    try:
        yield host, int(port), process.pid
    finally:
        process.terminate()
        process.wait()


def members(process: int) -> list[str]:
    """A process and its children."""
    return [str(process), *Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def processor_seconds(process: int) -> float:
    """Processor time of a process and its children so far: hardly a matter of what else the machine does."""
    ticks = 0
    for number in members(process):
        ticks += sum(map(int, Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(process: int) -> float:
    """MiB of a process and its children; pages that they share are counted once (PSS)."""
    total = 0
    for number in members(process):
        for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


class Clients:
    """Clients that each send requests one after the other."""

    def __init__(self, host: str, port: int, languages: tuple[str, str]) -> None:
        self.host, self.port, self.languages = host, port, languages
        self.seconds: list[float] = []
        self._lock = threading.Lock()

    def translate(self, texts: list[str], clients: int) -> float:
        """Translate texts by a number of clients; the time from the first request to the last answer."""
        self.seconds = []
        waiting = list(texts)

        def work() -> None:
            connection = HTTPConnection(self.host, self.port, timeout=120)
            while True:
                with self._lock:
                    if not waiting:
                        break
                    text = waiting.pop()
                begun = time.monotonic()
                self.post(connection, {"q": text})
                with self._lock:
                    self.seconds.append(time.monotonic() - begun)
            connection.close()

        threads = [threading.Thread(target=work) for _ in range(clients)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - begun

    def post(self, connection: HTTPConnection, fields: dict[str, object]) -> int:
        body = json.dumps({"source": self.languages[0], "target": self.languages[1], **fields})
        connection.request("POST", "/translate", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def percentile(self, share: float) -> float:
        """Milliseconds within which this share of the last requests was answered."""
        return 1000 * sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


def soak(clients: Clients, process: int, texts: list[str], minutes: float) -> None:
    """Mixed requests, refused and broken ones among them, from eight clients; memory each minute."""
    over = threading.Event()
    counts = dict.fromkeys(("answered", "refused", "broken off"), 0)
    kinds: list[dict[str, object]] = [
        {},
        {"alternatives": 3},
        {"attention": True},
        {"format": "html"},
        {"format": "odd"},
    ]

    def work(number: int) -> None:
        turn = number
        while not over.is_set():
            connection = HTTPConnection(clients.host, clients.port, timeout=120)
            for _ in range(20):
                turn += 1
                text = " ".join(texts[turn * 7 % len(texts)] for _ in range(1 + turn % 5))
                if turn % 11 == 0:
                    connection.request("POST", "/translate", json.dumps({"q": text, "source": "auto", "target": "de"}))
                    counts["broken off"] += 1
                    break
                try:
                    status = clients.post(connection, {"q": f"{text} {turn}", **kinds[turn % len(kinds)]})
                except (HTTPException, OSError):
                    break
                counts["answered" if status == 200 else "refused"] += 1
            connection.close()

    threads = [threading.Thread(target=work, args=(number * 1000,)) for number in range(8)]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    minute = 0
    while time.monotonic() - begun < 60 * minutes:
        print(f"minute {minute}: {memory(process):.0f} MiB, {counts}", flush=True)
        minute += 1
        time.sleep(max(0.0, min(60.0 * minute, 60 * minutes) - (time.monotonic() - begun)))
    over.set()
    for thread in threads:
        thread.join()
    print(f"end: {memory(process):.0f} MiB, {counts}")


def main() -> None:
    own, _, rest = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--requests", type=int, default=640)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=3, help="of all numbers of clients in turn; the best counts")
    parser.add_argument("--soak", type=float, default=0.0, help="minutes")
    arguments = parser.parse_args(own.split())
    texts = sentences(arguments.run, arguments.requests)
    data = (arguments.run / "config.yaml").read_text(encoding="utf-8")
    language = {
        line.split(":")[0].strip(): line.split(":")[1].split("#")[0].strip()
        for line in data.splitlines()
        if "_language:" in line
    }
    with server(arguments.run, rest.split()) as (host, port, process):
        clients = Clients(host, port, (language["source_language"], language["target_language"]))
        clients.translate(texts[:64], 8)  # warm caches and connections
        if arguments.soak:
            soak(clients, process, texts, arguments.soak)
            return
        print(
            f"{os.cpu_count()} cores; {arguments.requests} requests of {WORDS} words, best of {arguments.rounds} rounds"
        )
        best: dict[int, tuple[float, float, float, float]] = {}
        for _ in range(arguments.rounds):
            for count in arguments.clients:
                part = texts if count > 1 else texts[: max(1, len(texts) // 4)]
                before = processor_seconds(process)
                seconds = clients.translate(part, count)
                spent = 1000 * (processor_seconds(process) - before) / len(part)
                figures = len(part) / seconds, clients.percentile(0.5), clients.percentile(0.95), spent
                best[count] = max(best.get(count, figures), figures)
        print(
            "| clients | sentences/s | times one client | p50 ms | p95 ms | processor ms of the server per sentence |"
        )
        print("|---|---|---|---|---|---|")
        first = best[arguments.clients[0]][0]
        for count, (rate, median, tail, spent) in best.items():
            print(f"| {count} | {rate:.1f} | {rate / first:.1f} | {median:.0f} | {tail:.0f} | {spent:.1f} |")


if __name__ == "__main__":
    main()
