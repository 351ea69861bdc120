"""`turnout prices refresh` against a small response with every member that the price list's files have.

It was written by hand after AWS's documentation of the bulk files: nothing here has read the real ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from handlers.errors import InvalidConfig, TurnoutError
from infra.prices import refresh
from infra.prices.table import load_prices


def dimension(sku: str, number: int, usd: str, begin: str, end: str) -> tuple[str, dict[str, Any]]:
    code = f"{sku}.JRTCKXETXF.{number:010}"
    return code, {
        "rateCode": code,
        "description": f"{usd} USD",
        "beginRange": begin,
        "endRange": end,
        "unit": "Lambda-GB-Second",
        "pricePerUnit": {"USD": usd},
        "appliesTo": [],
    }


def offer(code: str, *products: tuple[str, dict[str, str]], free: bool = False) -> dict[str, Any]:
    """A region's file of one offer: each product has a first tier, a cheaper one and perhaps a free one."""
    described, priced = {}, {}
    for number, (usd, attributes) in enumerate(products):
        sku = f"SKU{number:013}"
        common = {"servicecode": code, "location": "US East (N. Virginia)", "regionCode": "us-east-1"}
        described[sku] = {
            "sku": sku,
            "productFamily": "Serverless",
            "attributes": {**common, "usagetype": "", "operation": "", **attributes},
        }
        tiers = [
            dimension(sku, 1, usd, "0", "6000000000"),
            dimension(sku, 2, "0.0000000001", "6000000000", "Inf"),
            *([dimension(sku, 3, "0.0000000000", "0", "400000")] if free else []),
        ]
        priced[sku] = {
            f"{sku}.JRTCKXETXF": {
                "offerTermCode": "JRTCKXETXF",
                "sku": sku,
                "effectiveDate": "2026-11-01T00:00:00Z",
                "priceDimensions": dict(tiers),
                "termAttributes": {},
            }
        }
    return {
        "formatVersion": "v1.0",
        "disclaimer": "",
        "offerCode": code,
        "version": "20261120000000",
        "publicationDate": "2026-11-20T00:00:00Z",
        "products": described,
        "terms": {"OnDemand": priced},
        "attributesList": {},
    }


OFFERS = {
    "AWSLambda": offer(
        "AWSLambda",
        ("0.0000140000", {"group": "AWS-Lambda-Duration-ARM", "usagetype": "Lambda-GB-Second-ARM"}),
        ("0.0000001900", {"group": "AWS-Lambda-Requests", "usagetype": "Request"}),
        free=True,
    ),
    "AmazonApiGateway": offer(
        "AmazonApiGateway",
        ("0.0000011000", {"operation": "ApiGatewayHttpApi", "usagetype": "USE1-ApiGatewayHttpRequest"}),
    ),
    "AmazonDynamoDB": offer("AmazonDynamoDB"),
    "AmazonSageMaker": offer(
        "AmazonSageMaker",
        ("1.5000000000", {"component": "Hosting", "instanceName": "ml.g5.xlarge"}),
        ("9.0000000000", {"component": "Training", "instanceName": "ml.g4dn.xlarge"}),
    ),
}


def fetch(url: str) -> bytes:
    name = url.split("/aws/")[1].split("/")[0]
    if url.endswith("region_index.json"):
        path = f"/offers/v1.0/aws/{name}/20261120000000/us-east-1/index.json"
        region = {"regionCode": "us-east-1", "currentVersionUrl": path}
        head = {"formatVersion": "v1.0", "publicationDate": "2026-11-20T00:00:00Z"}
        return json.dumps({**head, "regions": {"us-east-1": region}}).encode()
    return json.dumps(OFFERS[name]).encode()


def test_stated_prices_are_taken_and_dated_and_the_others_kept(tmp_path: Path):
    old = load_prices()
    new = refresh.refreshed("us-east-1", fetch, old)
    arm = new.prices["lambda.arm64.gb_s"]
    assert (arm.usd, arm.as_of, arm.confidence) == (0.000014, "2026-11-20", "high")
    assert new.prices["apigateway.http.request"].usd == 0.0000011
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
