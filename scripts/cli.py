"""The `turnout` command: mounts the commands of `scripts.commands`, and turns errors into exit code 2."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import typer

from handlers.errors import TurnoutError
from scripts import commands

GROUPS = {
    "prices": "The dated price table: show, refresh.",
    "release": "Releases: list, show, compare, table, triton, push, deploy, rollback.",
}


def build_app() -> typer.Typer:
    """The command line with every module of `scripts.commands` mounted."""
    app = typer.Typer(
        name="turnout",
        help="Train, compress, deploy, route: each request takes the cheapest path that meets its objective.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    groups = {name: typer.Typer(no_args_is_help=True) for name in GROUPS}
    for found in sorted(pkgutil.iter_modules(commands.__path__), key=lambda found: found.name):
        module = importlib.import_module(f"scripts.commands.{found.name}")
        group = getattr(module, "GROUP", found.name)
        groups.get(group, app).add_typer(module.app)
    for name, help_text in GROUPS.items():
        app.add_typer(groups[name], name=name, help=help_text)
    return app


def main() -> None:
    """Entry point; exit code 2 and one line on stderr for an error that the user can mend."""
    try:
        build_app()()
    except TurnoutError as error:
        print(f"turnout: error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
