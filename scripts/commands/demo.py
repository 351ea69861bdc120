"""`turnout demo`: build, start, ask, and show how to go on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Annotated

import typer

from scripts.commands.cloud import find_places, local_models, say, start

app = typer.Typer()


@app.command()
def demo(model: Annotated[str, typer.Argument(help="the model to show")] = "digits") -> None:
    """Build MODEL if it has no release, start the laptop cloud, send first requests, print what to try."""
    from handlers.errors import PointerMissing
    from scripts.local import client, release_upload
    from scripts.local.supervisor import Supervisor

    began = time.monotonic()
    places = find_places()
    for name in local_models():
        try:
            release_upload.current(places.releases, name)
        except PointerMissing:
            say(f"building {name}")
            subprocess.run(
                [sys.executable, "-m", "scripts.cli", "build", name], stdout=sys.stderr, check=True
            )
    try:
        start(Supervisor(places, say))
    except KeyboardInterrupt:
        say("interrupted: everything that had started is ended")
        raise typer.Exit(130) from None
    url = f"{places.api_url}/v2/models/{model}/infer"
    example = client.sample(places.releases, model, 3)
    body = {"inputs": example["inputs"], "parameters": {"latency_slo_ms": 200}}
    request_file = places.home / "sample.json"
    request_file.write_text(json.dumps(body))
    shown = request_file.relative_to(places.root)

    curl = f"curl -s {url} -H 'content-type: application/json' -d @{shown}"
    python = (
        f"import json, urllib.request as r; print(json.load(r.urlopen(r.Request('{url}', "
        f"open('{shown}', 'rb').read(), {{'content-type': 'application/json'}})))['parameters'])"
    )
    say(f"first answer {time.monotonic() - began:.0f} s after the start; the example's true label is "
        f"{example.get('label')!r}\n")  # fmt: skip
    for title, command, run in (
        ("with curl", curl, ["sh", "-c", curl]),
        ("with Python", f'python -c "{python}"', [sys.executable, "-c", python]),
    ):
        answered = subprocess.run(run, capture_output=True, text=True, cwd=places.root, check=True).stdout
        typer.echo(f"{title}:\n  {command}\n{answered.strip()}\n")
    typer.echo(
        f"a page to try it in:  {places.api_url}/\n"
        f"what it would do:     turnout route {model} --slo-ms 50\n"
        f"what runs:            turnout status, turnout top\n"
        f"end it:               turnout down"
    )
