"""The recipes that come with turnout, one file a model, and how a recipe is found by name or by file."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

from handlers.errors import BuildError
from model_build.recipe import Recipe


def names() -> tuple[str, ...]:
    """The recipes that come with turnout."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def find(name: str) -> Recipe:
    """The recipe of that name, or in that `.py` file.

    Raises BuildError when there is none, it lacks a piece, or its file cannot be run.
    """
    if name.endswith(".py"):
        module = _from_file(Path(name))
    elif name in names():
        module = importlib.import_module(f"{__name__}.{name}")
    else:
        raise BuildError(
            f"no recipe {name!r}; there are {', '.join(names())}, or give the path of a .py file"
        )
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise BuildError(
            f"{name}: a recipe file must define RECIPE = Recipe(…), found {type(recipe).__name__}"
        )
    return recipe


def _from_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise BuildError(f"no recipe file {file}")
    name = f"turnout_recipe_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise BuildError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that its classes can be found by name, as the hash of its code needs
    try:
        spec.loader.exec_module(module)
    except TypeError as error:
        if "Recipe.__init__()" not in str(error):
            raise
        raise BuildError(f"{file}: {str(error).replace('Recipe.__init__()', 'the recipe is')}") from error
    except (ImportError, SyntaxError) as error:
        raise BuildError(f"{file} cannot be run: {error}") from error
    return module
