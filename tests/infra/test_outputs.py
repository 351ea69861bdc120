"""What every stack tells after it was deployed: a command that exists, with options that it takes."""

from __future__ import annotations

import re
import shlex

import pytest
import typer

from scripts.cli import build_app

from .conftest import Look

pytestmark = pytest.mark.slow
STAGES = ("local", "dev", "prod")


def commands(look: Look, stage: str) -> dict[str, list[str]]:
    """By stack the outputs that begin with `turnout`."""
    return {
        name: [
            output["Value"]
            for output in template.get("Outputs", {}).values()
            if isinstance(output["Value"], str) and output["Value"].startswith("turnout ")
        ]
        for name, template in look(stage).templates.items()
    }


@pytest.mark.parametrize("stage", STAGES)
def test_every_stack_names_a_next_command_that_exists(look: Look, stage: str):
    for stack, lines in commands(look, stage).items():
        assert lines, f"{stack} tells no next command"
        for line in lines:
            command = typer.main.get_command(build_app())
            words = shlex.split(line)[1:]
            while hasattr(command, "commands"):
                command = command.commands[words.pop(0)]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, line
            assert re.search(rf"--stage {stage}\b", line), line
