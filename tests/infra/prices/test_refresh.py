"""`turnout prices refresh` against a small response with every member that the price list's files have.

Nothing here has read the real files. The response is written by hand: its members after AWS's documentation
("Reading the service price list files", awsaccountbilling), its groups, usage types and tiers after public
code that reads the real files: aws/aws-sam-cli `samcli/commands/check` (Lambda, `Global-` for the free tier),
infracost/infracost (API Gateway, DynamoDB), awslabs/llmeter (SageMaker hosting by `component` and
`instanceName`). Read 2026-11-27.
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
            *([dimension(sku, 2, "0.0000000001", "6000000000", "Inf")] if float(usd) else []),
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


def machine(usd: str, usage: str, component: str, name: str) -> tuple[str, dict[str, str]]:
    """An instance type as SageMaker lists it: once for each use, under the same name."""
    kinds = {"component": component, "instanceName": name, "instanceType": f"{name}-{component}"}
    return usd, {**kinds, "operation": "RunInstance", "usagetype": f"USE1-{usage}:{name}"}


OFFERS = {
    "AWSLambda": offer(
        "AWSLambda",
        ("0.0000000000", {"group": "AWS-Lambda-Duration", "usagetype": "Global-Lambda-GB-Second"}),
        ("0.0000500100", {"group": "AWS-Lambda-Edge-Duration", "usagetype": "Lambda-Edge-GB-Second"}),
        ("0.0000160000", {"group": "AWS-Lambda-Duration", "usagetype": "Lambda-GB-Second"}),
        ("0.0000077778", {"group": "AWS-Lambda-Duration-Provisioned-ARM",
                          "usagetype": "Lambda-Provisioned-GB-Second-ARM"}),
        ("0.0000140000", {"group": "AWS-Lambda-Duration-ARM", "usagetype": "Lambda-GB-Second-ARM"}),
        ("0.0000001900", {"group": "AWS-Lambda-Requests", "usagetype": "Request"}),
        free=True,
    ),
    "AmazonApiGateway": offer(
        "AmazonApiGateway",
        ("0.0000036000", {"operation": "ApiGatewayRequest", "usagetype": "USE1-ApiGatewayRequest"}),
        ("0.0000011000", {"operation": "ApiGatewayHttpApi", "usagetype": "USE1-ApiGatewayHttpRequest"}),
    ),
    "AmazonDynamoDB": offer(
        "AmazonDynamoDB",
        ("0.0006500000", {"group": "DDB-WriteUnits", "operation": "CommittedThroughput",
                          "usagetype": "WriteCapacityUnit-Hrs"}),
        ("0.0000007800", {"group": "DDB-WriteUnitsIA", "operation": "PayPerRequestThroughput",
                          "usagetype": "IA-WriteRequestUnits"}),
        ("0.0000006300", {"group": "DDB-WriteUnits", "operation": "PayPerRequestThroughput",
                          "usagetype": "WriteRequestUnits"}),
    ),
    "AmazonSageMaker": offer(
        "AmazonSageMaker",
        machine("1.9000000000", "AsyncInf", "AsyncInf", "ml.g5.xlarge"),
        machine("1.5000000000", "Host", "Hosting", "ml.g5.xlarge"),
        machine("9.0000000000", "Train", "Training", "ml.g4dn.xlarge"),
    ),
}  # fmt: skip


def fetch(url: str) -> bytes:
    name = url.split("/aws/")[1].split("/")[0]
    if url.endswith("region_index.json"):
        path = f"/offers/v1.0/aws/{name}/20261120000000/us-east-1/index.json"
        regions = {
            region: {"regionCode": region, "currentVersionUrl": path.replace("us-east-1", region)}
            for region in ("us-east-1", "eu-central-1")
        }
        head = {"formatVersion": "v1.0", "publicationDate": "2026-11-20T00:00:00Z"}
        return json.dumps({**head, "regions": regions}).encode()
    return json.dumps(OFFERS[name]).encode()


def test_stated_prices_are_taken_and_dated_and_the_others_kept(tmp_path: Path):
    old = load_prices()
    new = refresh.refreshed("us-east-1", fetch, old)
    arm = new.prices["lambda.arm64.gb_s"]
    assert (arm.usd, arm.as_of, arm.confidence) == (0.000014, "2026-11-20", "high")
    # And each is the one that is meant among products with much the same names
    assert new.prices["lambda.x86_64.gb_s"].usd == 0.000016
    assert new.prices["apigateway.http.request"].usd == 0.0000011
    assert new.prices["apigateway.rest.request"].usd == 0.0000036
    assert new.prices["dynamodb.write"].usd == 0.00000063
    assert new.instances["ml.g5.xlarge"].usd_per_hour == 1.5
    assert new.instances["ml.g4dn.xlarge"] == old.instances["ml.g4dn.xlarge"]
    assert new.prices["kms.key"] == old.prices["kms.key"]
    assert "lambda.request: 2e-07 -> 1.9e-07 USD per request" in refresh.changes(old, new)
    # And what is written reads back as the same table
    written = json.loads(refresh.write(new, tmp_path).read_text())
    assert [row["key"] for row in written["prices"]] == list(new.prices)
    assert [path.name for path in tmp_path.iterdir()] == ["us-east-1.json"]


def test_the_first_table_of_a_region_says_which_prices_are_another_regions(tmp_path: Path):
    made = refresh.refreshed("eu-central-1", fetch, load_prices())
    stated, guessed = made.prices["lambda.arm64.gb_s"], made.prices["kms.key"]
    assert (stated.confidence, stated.source) == ("high", "AWS Price List bulk file")
    assert (guessed.confidence, guessed.source) == (
        "low",
        f"us-east-1's: {load_prices().prices['kms.key'].source}",
    )
    assert made.instances["ml.g4dn.xlarge"].confidence == "low"
    assert made.instances["ml.g5.xlarge"].confidence == "high"
    assert refresh.write(made, tmp_path).name == "eu-central-1.json"


@pytest.mark.parametrize(
    ("usage", "taken"),
    [("Request", True), ("EUC1-Request", True), ("Request-ARM", False), ("Lambda-Edge-Request", False)],
)
def test_a_usage_type_may_have_its_region_in_front(usage: str, taken: bool):
    rule = refresh.Rule("key", "AWSLambda", "Request", {"group": "AWS-Lambda-Requests"})
    group = "AWS-Lambda-Edge-Requests" if "Edge" in usage else "AWS-Lambda-Requests"
    assert rule.takes({"usagetype": usage, "group": group}) is taken


def test_a_region_that_the_list_does_not_have():
    with pytest.raises(InvalidConfig, match=r"region: 'mars-north-1' .* one of eu-central-1, us-east-1"):
        refresh.refreshed("mars-north-1", fetch, load_prices())


def test_a_list_that_cannot_be_read():
    def broken(url: str) -> bytes:
        raise OSError("no network")

    with pytest.raises(TurnoutError, match=r"cannot be read from https://pricing.*no network"):
        refresh.refreshed("us-east-1", broken, load_prices())
