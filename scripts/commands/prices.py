"""`turnout prices show | refresh`: the dated table that every cost is computed from."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

app = typer.Typer()

Region = Annotated[str, typer.Option("--region", help="an AWS region")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")]
TIMEOUT_S = 60


@app.command()
def show(region: Region = "us-east-1", as_json: AsJson = False) -> None:
    """Every price with its date, confidence and source."""
    from infra.prices.table import load_prices

    table = load_prices(region)
    if as_json:
        rows = [asdict(row) for row in table.prices.values()]
        instances = [asdict(row) for row in table.instances.values()]
        typer.echo(json.dumps({"region": region, "prices": rows, "instances": instances}))
        return
    for price in table.prices.values():
        typer.echo(f"{price.key:32} {price.usd:<14.10g} USD/{price.unit:16} {price.as_of} {price.confidence}")
    for row in table.instances.values():
        typer.echo(f"{row.type:32} {row.usd_per_hour:<14g} USD/{'hour':16} {row.as_of} {row.confidence}")


@app.command()
def refresh(region: Region = "us-east-1", as_json: AsJson = False) -> None:
    """Rewrite the table from AWS's public price list; needs the network but no credentials."""
    from urllib.request import urlopen

    from infra.prices.refresh import changes, refreshed, write
    from infra.prices.table import known_regions, load_prices

    old = load_prices(region if region in known_regions() else "us-east-1")
    new = refreshed(region, lambda url: urlopen(url, timeout=TIMEOUT_S).read(), old)  # noqa: S310  # https only
    path = write(new)
    found = changes(old, new)
    if as_json:
        typer.echo(json.dumps({"region": region, "changed": found}))
        return
    typer.echo("\n".join(found) or "nothing has changed")
    typer.echo(f"written: {path.name}")
