"""The house's arrows point down only, and boto3 stays in its rooms."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("handlers", "model_build", "infra", "scripts")
MAY_IMPORT = {
    "handlers": {"handlers"},
    "model_build": {"handlers", "model_build"},
    "infra": {"handlers", "model_build", "infra"},
    "scripts": set(ROOMS),
}
BOTO3_ROOMS = ("handlers/adapters/", "model_build/remote.py", "infra/", "scripts/")


def modules(folder: str) -> Iterator[tuple[str, set[str]]]:
    """Every module below a folder, and the dotted names that it imports, anywhere in it."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
        yield path.relative_to(ROOT).as_posix(), found


@pytest.mark.parametrize("room", ROOMS)
def test_GivenARoom_WhenItsImportsAreRead_ThenNoArrowPointsUp(room: str) -> None:
    upward = {
        (name, target)
        for name, imported in modules(room)
        for target in {module.partition(".")[0] for module in imported} & set(ROOMS)
        if target not in MAY_IMPORT[room]
    }
    assert not upward


def test_GivenRouting_WhenItsImportsAreRead_ThenOnlyTheStandardLibraryItselfAndTheErrorsAreThere() -> None:
    foreign = {
        (name, module)
        for name, imported in modules("handlers/routing")
        for module in imported
        if module.partition(".")[0] not in sys.stdlib_module_names
        and not module.startswith("handlers.routing")
        and module != "handlers.errors"
    }
    assert not foreign


def test_GivenTheHouse_WhenImportsAreRead_ThenBoto3IsOnlyInItsRooms() -> None:
    elsewhere = {
        name
        for room in ROOMS
        for name, imported in modules(room)
        if {module.partition(".")[0] for module in imported} & {"boto3", "botocore"}
        and not name.startswith(BOTO3_ROOMS)
    }
    assert not elsewhere
