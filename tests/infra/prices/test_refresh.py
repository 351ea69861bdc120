"""`turnout prices refresh` against a small response in the price list's documented form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from handlers.errors import InvalidConfig, TurnoutError
from infra.prices import refresh
from infra.prices.table import load_prices


def product(
    usd: str, attributes: dict[str, str], *, free: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    dimensions = {"paid": {"pricePerUnit": {"USD": usd}, "beginRange": "0"}}
    dimensions["later"] = {"pricePerUnit": {"USD": "0.0000000001"}, "beginRange": "6000000000"}
    if free:
        dimensions["free"] = {"pricePerUnit": {"USD": "0.0000000000"}, "beginRange": "0"}
    return {"attributes": attributes}, {"t": {"priceDimensions": dimensions}}


def offer(*products: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return {
        "publicationDate": "2026-11-20T00:00:00Z",
        "products": {f"SKU{n}": body for n, (body, _) in enumerate(products)},
        "terms": {"OnDemand": {f"SKU{n}": term for n, (_, term) in enumerate(products)}},
    }


OFFERS = {
    "AWSLambda": offer(
        product("0.0000140000", {"group": "AWS-Lambda-Duration-ARM"}, free=True),
        product("0.0000001900", {"group": "AWS-Lambda-Requests"}),
    ),
    "AmazonApiGateway": offer(),
    "AmazonDynamoDB": offer(),
    "AmazonSageMaker": offer(
        product("1.5000000000", {"component": "Hosting", "instanceName": "ml.g5.xlarge"}),
        product("9.0000000000", {"component": "Training", "instanceName": "ml.g4dn.xlarge"}),
    ),
}


def fetch(url: str) -> bytes:
    name = url.split("/aws/")[1].split("/")[0]
    if url.endswith("region_index.json"):
        path = f"/offers/v1.0/aws/{name}/20261120/us-east-1/index.json"
        return json.dumps({"regions": {"us-east-1": {"currentVersionUrl": path}}}).encode()
    return json.dumps(OFFERS[name]).encode()


def test_stated_prices_are_taken_and_dated_and_the_others_kept(tmp_path: Path):
    old = load_prices()
    new = refresh.refreshed("us-east-1", fetch, old)
    arm = new.prices["lambda.arm64.gb_s"]
    assert (arm.usd, arm.as_of, arm.confidence) == (0.000014, "2026-11-20", "high")
    assert new.instances["ml.g5.xlarge"].usd_per_hour == 1.5
    assert new.instances["ml.g4dn.xlarge"] == old.instances["ml.g4dn.xlarge"]
    assert new.prices["kms.key"] == old.prices["kms.key"]
    assert "lambda.request: 2e-07 -> 1.9e-07 USD per request" in refresh.changes(old, new)
    # And what is written reads back as the same table
    written = json.loads(refresh.write(new, tmp_path).read_text())
    assert [row["key"] for row in written["prices"]] == list(new.prices)
    assert [path.name for path in tmp_path.iterdir()] == ["us-east-1.json"]


def test_a_region_that_the_list_does_not_have():
    with pytest.raises(InvalidConfig, match=r"region: 'mars-north-1' .* one of us-east-1"):
        refresh.refreshed("mars-north-1", fetch, load_prices())


def test_a_list_that_cannot_be_read():
    def broken(url: str) -> bytes:
        raise OSError("no network")

    with pytest.raises(TurnoutError, match=r"cannot be read from https://pricing.*no network"):
        refresh.refreshed("us-east-1", broken, load_prices())
