"""One thread and a seed for every test, and the execution of shapes.

Shapes are checked on the loaded modules and not by jaxtyping's import hook, which comes too late where another folder's
tests have imported the models before.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

import seq2seq.models


def _modules() -> list[ModuleType]:
    prefix = seq2seq.models.__name__
    return [module for name, module in sys.modules.items() if name == prefix or name.startswith(prefix + ".")]


@pytest.fixture(scope="module")
def executed_shapes() -> Iterator[None]:
    """Check every call against its annotations; it would take most of the time of other tests."""
    modules = _modules()
    names = {module.__name__ for module in modules}
    checked = {}
    with pytest.MonkeyPatch.context() as patch:
        for thing in (thing for module in modules for thing in list(vars(module).values())):
            if getattr(thing, "__module__", None) not in names:
                continue
            if isinstance(thing, FunctionType):
                checked[thing] = jaxtyped(thing, typechecker=beartype)
            elif inspect.isclass(thing) and issubclass(thing, torch.nn.Module):
                for name, method in list(vars(thing).items()):
                    if isinstance(method, FunctionType) and not hasattr(method, "shapes_executed"):
                        wrapped = jaxtyped(method, typechecker=beartype)
                        wrapped.shapes_executed = True
                        patch.setattr(thing, name, wrapped)
        for module in modules:
            for name, thing in list(vars(module).items()):
                if isinstance(thing, FunctionType) and thing in checked:
                    patch.setattr(module, name, checked[thing])
        yield


@pytest.fixture(autouse=True)
def _seed_and_one_thread() -> Iterator[None]:
    """Tiny tensors are slower in several threads, and far slower where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    yield
    torch.set_num_threads(threads)
