import functools
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from model_build import fingerprint, train

RECIPE_FILE = '''
"""A recipe."""
WIDTH = 8
UNUSED = 1

def helper(x):
    return x + WIDTH

def make():
    """Says something."""
    return helper(1)  # a remark

def other():
    return 2
'''


class Loader:
    """Loads a recipe's file anew, as another run of the build would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []

    def __call__(self, text: str) -> ModuleType:
        name = f"loaded_{len(self.names)}"
        file = self.folder / f"{name}.py"
        file.write_text(text)
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        self.names.append(name)
        spec.loader.exec_module(module)
        return module


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Loader]:
    loader = Loader(tmp_path)
    yield loader
    for name in loader.names:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a remark", "# another remark"),
        ("Says something", "Says more"),
        ("return 2", "return 3"),
        ("UNUSED = 1", "UNUSED = 2"),
        ("helper(1)", "helper( 1 )"),
    ],
)
def test_GivenAChangeThatCodeDoesNotReach_WhenHashed_ThenTheHashStays(
    loaded: Loader, old: str, new: str
) -> None:
    before, after = loaded(RECIPE_FILE), loaded(RECIPE_FILE.replace(old, new))
    assert fingerprint.of_code(before.make) == fingerprint.of_code(after.make)


@pytest.mark.parametrize(
    ("old", "new"), [("helper(1)", "helper(2)"), ("x + WIDTH", "x - WIDTH"), ("WIDTH = 8", "WIDTH = 16")]
)
def test_GivenAChangeThatCodeReaches_WhenHashed_ThenTheHashChanges(
    loaded: Loader, old: str, new: str
) -> None:
    before, after = loaded(RECIPE_FILE), loaded(RECIPE_FILE.replace(old, new))
    assert fingerprint.of_code(before.make) != fingerprint.of_code(after.make)
    assert fingerprint.of_code(before.other) == fingerprint.of_code(after.other)


@dataclass(frozen=True)
class Setting:
    rate: float
    name: str


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, 1.0),
        (1, "1"),
        (None, "None"),
        ((1, 2), (2, 1)),
        (("ab", "c"), ("a", "bc")),
        ({"a": 1}, {"a": 2}),
        (Setting(0.1, "x"), Setting(0.2, "x")),
        (np.zeros(3), np.zeros(4)),
        (np.zeros(4, np.float32), np.zeros(8, np.float16)),
        (functools.partial(Setting, 0.1), functools.partial(Setting, 0.2)),
        (functools.partial(Setting, 0.1), Setting),
    ],
)
def test_GivenDifferentValues_WhenHashed_ThenTheHashesDiffer(one: object, other: object) -> None:
    assert fingerprint.of_value(one) != fingerprint.of_value(other)


def test_GivenEqualValues_WhenHashed_ThenTheHashesAreEqual() -> None:
    assert fingerprint.of_value({"b": 1, "a": (2.5,)}) == fingerprint.of_value({"a": (2.5,), "b": 1})
    assert fingerprint.of_value(Setting(0.1, "x")) == fingerprint.of_value(Setting(0.1, "x"))


def test_GivenAThingWithoutContent_WhenHashed_ThenItIsRefused() -> None:
    with pytest.raises(TypeError, match="cannot hash a set"):
        fingerprint.of_value({1})


def test_GivenTheTrainingStep_WhenHashed_ThenTheTreeOfErrorsIsNoPartOfIt() -> None:
    source = fingerprint._Source.of(str(Path(train.__file__)))
    assert source.imports["BuildError"] == "handlers.errors"
    assert not [file for file in source.imported_files() if file.endswith("errors.py")]
