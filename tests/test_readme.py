"""What the README names exists: files, make targets, commands and their options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from scripts.cli import build_app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(
    {
        part.strip()
        for line in re.findall(r"^    (turnout .*)$", README, re.MULTILINE)
        for part in line.partition("#")[0].split("&&")
        if part.strip().startswith("turnout ")
    }
)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([\w./-]+)\)", README))))
def test_GivenALink_WhenFollowed_ThenTheFileIsThere(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z-]+)", README)) - {"are"}))
def test_GivenAMakeTarget_WhenLookedUp_ThenTheMakefileHasIt(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_GivenACommand_WhenParsed_ThenItsNameAndOptionsAreKnown(line: str) -> None:
    command = typer.main.get_command(build_app())
    arguments = shlex.split(line)[1:]
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    asked = {argument for argument in arguments if argument.startswith("--")}
    assert asked <= known


def test_GivenTheDependencyTable_WhenCompared_ThenNothingThatIsInstalledIsMissing() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = {re.split(r"[\[<>=]", name)[0] for name in project["dependencies"]}
    assert {name for name in installed if name not in README} == set()


def test_GivenTheTableOfReleases_WhenCompared_ThenItIsWhatTheCommandWrites(tmp_path: Path) -> None:
    from model_build import shelf

    rows = README.partition("<!-- releases -->\n")[2].partition("<!-- /releases -->")[0].splitlines()
    assert "\n".join(rows[:2]) + "\n" == shelf.table(tmp_path)
    row = re.compile(
        r"\| (\w+) \| \d+\.\d\d % \| \d+\.\d\d % \| [\d,]+ kB, (int8|fp32) \| \d+\.\d{3} ms \| "
        r"\d+\.\d% \| at most [\d.]+ points, 95% \|"
    )
    named = [found[1] for line in rows[2:] if (found := row.fullmatch(line))]
    assert len(named) == len(rows) - 2
    assert named == sorted(named)
    assert {"digits", "mnist", "sst2"} <= set(named)
