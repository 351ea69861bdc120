"""Content hashes of code and values, so that a changed input reruns just what depends on it.

Code is hashed by its syntax tree without docstrings: comments, formatting and prose change nothing.
A function or class counts with everything that it reaches: definitions in its own file one by one,
other modules of the project whole. Libraries count by version.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

PROJECT = ("model_build", "handlers")
# What an error is called changes no result, and every module imports them.
UNCOUNTED = ("handlers.errors",)


def digest(parts: Iterable[str | bytes]) -> str:
    """sha256 (hex) of the parts, each with its length so that no two lists collide."""
    total = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        total.update(f"{len(raw)}:".encode())
        total.update(raw)
    return total.hexdigest()


def versions(libraries: Iterable[str]) -> str:
    """The libraries' versions without the build (`+cpu`): what a GPU has trained counts on a laptop too."""
    return " ".join(f"{name}={importlib.metadata.version(name).split('+')[0]}" for name in libraries)


def of_array(array: np.ndarray[Any, Any]) -> str:
    """The hash of dtype, shape and content."""
    data = np.ascontiguousarray(array)
    return digest((str(data.dtype), str(data.shape), data.view(np.uint8).reshape(-1).tobytes()))


def of_value(value: object) -> str:
    """The hash of a recipe's field: plain values, dataclasses, containers, functions and classes."""
    if value is None or isinstance(value, bool | int | float | str | bytes | Path):
        return digest((type(value).__name__, repr(value)))
    if isinstance(value, np.ndarray):
        return of_array(value)
    if is_dataclass(value) and not isinstance(value, type):
        return digest(f"{field.name}={of_value(getattr(value, field.name))}" for field in fields(value))
    if isinstance(value, Mapping):
        return digest(f"{of_value(key)}={of_value(value[key])}" for key in sorted(value))
    if isinstance(value, list | tuple):
        return digest(of_value(item) for item in value)
    if isinstance(value, functools.partial):
        return digest((of_code(value.func), of_value(value.args), of_value(value.keywords)))
    if callable(value):
        return of_code(value)
    raise TypeError(f"cannot hash a {type(value).__name__}")


def of_code(definition: Any) -> str:
    """The hash of a function or class and all project code that it reaches."""
    name, module = str(definition.__qualname__).split(".")[0], str(definition.__module__)
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not _is_ours(module, Path(file)):
        return digest((module, name))
    source = _Source.of(file)
    if name not in source.definitions:  # a lambda, or a function made inside another: its whole file
        return digest((of_module(file), str(definition.__qualname__)))
    return digest(source.reached({name}))


@functools.cache
def of_module(file: str) -> str:
    """The hash of a whole project module and of every project module that it imports."""
    source = _Source.of(file)
    return digest([source.whole, *(of_module(found) for found in sorted(source.imported_files()))])


def _is_ours(module: str, file: Path) -> bool:
    """True for turnout's own modules and for files outside any installed package (a user's recipe)."""
    return module.split(".")[0] in PROJECT or ("site-packages" not in file.parts and "lib" not in file.parts)


class _Source:
    """One parsed file: its top-level definitions by name, and what its imports stand for."""

    def __init__(self, file: str) -> None:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                node.body = node.body[1:] or [ast.Pass()]
        self.whole = ast.dump(tree)
        self.definitions: dict[str, ast.stmt] = {}
        self.imports: dict[str, str] = {}
        for statement in tree.body:
            for name in _names_bound(statement):
                self.definitions[name] = statement
        for found in ast.walk(tree):
            if isinstance(found, ast.ImportFrom) and found.module:
                for alias in found.names:
                    inner = f"{found.module}.{alias.name}"
                    self.imports[alias.asname or alias.name] = inner if _project_file(inner) else found.module
            elif isinstance(found, ast.Import):
                self.imports |= {
                    alias.asname or alias.name.split(".")[0]: alias.name for alias in found.names
                }

    @classmethod
    def of(cls, file: str) -> _Source:
        return _parsed(file)

    def imported_files(self) -> set[str]:
        return {file for module in self.imports.values() if (file := _project_file(module))}

    def reached(self, names: set[str]) -> list[str]:
        """The dumps of the definitions reached from `names`, and the hashes of the modules they use."""
        seen: set[str] = set()
        modules: set[str] = set()
        todo = set(names)
        while todo:
            name = todo.pop()
            seen.add(name)
            used = {n.id for n in ast.walk(self.definitions[name]) if isinstance(n, ast.Name)}
            modules |= {f for used_name in used if (f := _project_file(self.imports.get(used_name, "")))}
            todo |= (used & self.definitions.keys()) - seen
        return [ast.dump(self.definitions[name]) for name in sorted(seen)] + [
            of_module(file) for file in sorted(modules)
        ]


@functools.cache
def _parsed(file: str) -> _Source:
    return _Source(file)


def _names_bound(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [n.id for target in statement.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    return []


@functools.cache
def _project_file(module: str) -> str | None:
    if module.split(".")[0] not in PROJECT or module in UNCOUNTED:
        return None
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return spec.origin if spec is not None else None
