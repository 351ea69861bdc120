"""The `turnout` command: mounts the commands of `scripts.commands`, and turns errors into exit code 2."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import typer

from handlers.errors import TurnoutError
from scripts import commands

GROUPS = {"release": "What was built: list, show, compare.", "prices": "The dated price table."}


def build_app() -> typer.Typer:
    """The command line with every module of `scripts.commands` mounted."""
    app = typer.Typer(
        name="turnout",
        help="Train, compress, deploy, route: each request takes the cheapest path that meets its objective.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    for module in sorted(pkgutil.iter_modules(commands.__path__), key=lambda found: found.name):
        commands_of = importlib.import_module(f"scripts.commands.{module.name}").app
        if module.name in GROUPS:
            app.add_typer(commands_of, name=module.name, help=GROUPS[module.name])
        else:
            app.add_typer(commands_of)
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
