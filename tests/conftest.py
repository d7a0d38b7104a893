"""Fixtures for every room."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings

from seq2seq import console
from seq2seq.errors import UserError
from seq2seq.kernels import compile as compiling
from seq2seq.kernels.compile import Kernels
from seq2seq.system import computes_bf16
from seq2seq.training import trainer
from seq2seq.user_cache import private_folder, user_cache
from tests import children

# One process for each core runs the suite; threads inside them would only get in each other's way.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# The same examples in every run, and no verdict about the speed of the machine.
settings.register_profile(
    "suite", derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this CPU cannot compute."""
    if item.get_closest_marker("bf16") and not computes_bf16():
        pytest.skip("this CPU does not compute in bf16")
    if item.get_closest_marker("int8") and (fault := compiling.int8_fault()):
        pytest.skip(fault)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real corpora laid beside the project; tests that need them skip where they are absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the corpora in ../shared/data")
    return folder


@pytest.fixture
def default_signals() -> Iterator[None]:
    """Signals are handled as in a shell's foreground; the tests may have been started with some of them ignored."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
    handlers = {number: signal.getsignal(number) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    children.default_signals()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prepared data of the tests are kept apart from those of the user, who may have no home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQ2SEQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        try:
            private_folder(user_cache() / "kernels")
        except UserError:  # every process would compile its own
            patch.setenv("NUMBA_CACHE_DIR", str(shared_between_processes(tmp_path_factory, "kernels")))
        yield


@pytest.fixture(autouse=True)
def _nothing_shown() -> None:
    """What one test was shown once is shown to the next one, too."""
    console._shown.clear()


@pytest.fixture(scope="session", autouse=True)
def _quick_estimates() -> Iterator[None]:
    """An estimate times one step; sixteen take longer than the trainings of most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_TIMED_STEPS", 1)
        yield


def shared_between_processes(factory: pytest.TempPathFactory, name: str) -> Path:
    """A place of this name that all processes of this call of pytest know."""
    base = factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """The compiled loops. Compiling takes half a minute: one process does it, the others load what it has kept."""
    with FileLock(shared_between_processes(tmp_path_factory, "kernels.lock")):
        assert compiling.load() == ""
    found = compiling.loaded()
    assert found is not None
    return found
