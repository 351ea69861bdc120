"""Writes docs/walkthrough.md: what a person types for the local stage and what is printed, whole.

    python -m scripts.walkthrough

It needs a built release of digits, and free ports. Only terminal colours and Node's end-of-life box are left
out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from scripts.commands.cloud import find_places

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "walkthrough.md"
CDK = "--app .turnout/local/cdk.out"
COMMANDS = (
    "turnout up",
    "turnout invoke digits --sample 3 --stage local",
    f"npx cdk diff {CDK} --method=template",
    "turnout release deploy digits --stage local",
    f"npx cdk deploy {CDK} --all --require-approval never",
    "turnout release purge --stage local --yes",
    f"npx cdk destroy {CDK} --all --force",
    "turnout down",
)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
HEAD = """# The local stage, from nothing to nothing

Written by `python -m scripts.walkthrough` on {day}; each command with all that it printed. The commands that
begin with `npx cdk` are the real CDK command line, led to the laptop's AWS by `AWS_ENDPOINT_URL`.
"""


def said(command: str, environment: dict[str, str]) -> str:
    """What `command` prints; SystemExit when it fails."""
    words = command.split()
    line = [sys.executable, "-m", "scripts.cli", *words[1:]] if words[0] == "turnout" else words
    done = subprocess.run(
        line,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{command} failed\n{done.stdout}")
    text = COLOURS.sub("", done.stdout)
    return "\n".join(row.rstrip() for row in text.splitlines() if not row.startswith("b'!!"))


def main() -> None:
    """Runs the commands in order and writes the page."""
    places = find_places()
    environment = {**os.environ, **places.client_environment(), "CI": "true"}
    environment.pop("AWS_ENDPOINT_URL_LAMBDA", None)
    parts = [HEAD.format(day=datetime.now(UTC).date().isoformat())]
    for command in COMMANDS:
        print(command, file=sys.stderr, flush=True)
        rows = [f"$ {command}", *said(command, environment).splitlines()]
        parts.append("\n".join(f"    {row}".rstrip() for row in rows))
    PAGE.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
