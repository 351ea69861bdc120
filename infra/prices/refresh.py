"""Rewrites a region's price table from AWS's public price list (bulk files, no credentials).

An offer's region index names its current file; `products[sku]` joined with `terms.OnDemand[sku]` gives the
price, and `publicationDate` its date. Rows for which the list has no rule here are kept as they are; in the
first table of a region they are another region's, and say so.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from handlers.errors import InvalidConfig, TurnoutError
from infra.prices.table import FOLDER, Instance, Price, PriceTable, load_prices

HOST = "https://pricing.us-east-1.amazonaws.com"
SOURCE = "AWS Price List bulk file"
Fetch = Callable[[str], bytes]
Row = TypeVar("Row", Price, Instance)


@dataclass(frozen=True, slots=True)
class Rule:
    """Which product of `offer` a row of the table is: the one with this `usage` type and all `attributes`.

    A usage type has its region's short name in front (`EUC1-`), in us-east-1 of some offers only. The free
    tier's (`Global-`) costs nothing, so it gives no price.
    """

    key: str
    offer: str
    usage: str
    attributes: Mapping[str, str]

    def takes(self, attributes: Mapping[str, str]) -> bool:
        """Whether the product with these attributes is the one."""
        usage = attributes.get("usagetype", "")
        return (usage == self.usage or usage.endswith(f"-{self.usage}")) and all(
            attributes.get(key) == value for key, value in self.attributes.items()
        )


RULES = (
    Rule("lambda.x86_64.gb_s", "AWSLambda", "Lambda-GB-Second", {"group": "AWS-Lambda-Duration"}),
    Rule("lambda.arm64.gb_s", "AWSLambda", "Lambda-GB-Second-ARM", {"group": "AWS-Lambda-Duration-ARM"}),
    Rule("lambda.request", "AWSLambda", "Request", {"group": "AWS-Lambda-Requests"}),
    Rule("apigateway.http.request", "AmazonApiGateway", "ApiGatewayHttpRequest", {}),
    Rule("apigateway.rest.request", "AmazonApiGateway", "ApiGatewayRequest", {}),
    Rule("dynamodb.write", "AmazonDynamoDB", "WriteRequestUnits", {"group": "DDB-WriteUnits"}),
    Rule("dynamodb.read", "AmazonDynamoDB", "ReadRequestUnits", {"group": "DDB-ReadUnits"}),
)


def refreshed(region: str, fetch: Fetch, base: PriceTable) -> PriceTable:
    """`base` with every price that the list states for `region`, dated; `fetch` gets a URL's bytes.

    Raises InvalidConfig with the known regions for one that the list does not have.
    """
    prices = {key: _carried(row, base.region, region) for key, row in base.prices.items()}
    instances = {key: _carried(row, base.region, region) for key, row in base.instances.items()}
    for offer in sorted({rule.offer for rule in RULES}):
        document = _offer(offer, region, fetch)
        for rule in (rule for rule in RULES if rule.offer == offer):
            usd = next(_matches(document, rule), None)
            if usd is not None:
                prices[rule.key] = replace(
                    prices[rule.key], usd=usd, as_of=_date(document), confidence="high", source=SOURCE
                )
    document = _offer("AmazonSageMaker", region, fetch)
    for name, usd in _hosting(document):
        if name in instances:
            instances[name] = replace(
                instances[name], usd_per_hour=usd, as_of=_date(document), confidence="high", source=SOURCE
            )
    return PriceTable(region, prices, instances)


def _carried(row: Row, origin: str, region: str) -> Row:
    """A row that the list may not replace: in a table of another region it is only a first guess."""
    if origin == region:
        return row
    return replace(row, confidence="low", source=f"{origin}'s: {row.source}")


def write(table: PriceTable, folder: Path = FOLDER) -> Path:
    """Store `table`, one row a line, replacing the old file whole."""
    head = {"schema_version": 1, "region": table.region, "currency": "USD"}
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    body = "\n".join(
        [
            "{",
            *lines,
            _rows("prices", table.prices.values()) + ",",
            _rows("instances", table.instances.values()),
            "}",
        ]
    )
    path = folder / f"{table.region}.json"
    descriptor, partial = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "w") as file:
        file.write(body + "\n")
    Path(partial).chmod(0o644)
    Path(partial).replace(path)
    load_prices.cache_clear()
    return path


def changes(old: PriceTable, new: PriceTable) -> list[str]:
    """One line for every number that differs."""
    lines = [
        f"{key}: {old.prices[key].usd:.10g} -> {row.usd:.10g} USD per {row.unit}"
        for key, row in new.prices.items()
        if row.usd != old.prices[key].usd
    ]
    return lines + [
        f"{key}: {old.instances[key].usd_per_hour:g} -> {row.usd_per_hour:g} USD per hour"
        for key, row in new.instances.items()
        if row.usd_per_hour != old.instances[key].usd_per_hour
    ]


def _rows(name: str, rows: Any) -> str:
    def row(entry: Price | Instance) -> str:
        return json.dumps({key: value for key, value in asdict(entry).items() if value != ""})

    return f' "{name}": [\n  ' + ",\n  ".join(row(entry) for entry in rows) + "\n ]"


def _offer(offer: str, region: str, fetch: Fetch) -> dict[str, Any]:
    index = _json(fetch, f"{HOST}/offers/v1.0/aws/{offer}/current/region_index.json")["regions"]
    if region not in index:
        raise InvalidConfig("region", region, "one of " + ", ".join(sorted(index)))
    return _json(fetch, HOST + index[region]["currentVersionUrl"])


def _json(fetch: Fetch, url: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(fetch(url))
    except (OSError, ValueError) as error:
        raise TurnoutError(f"the price list cannot be read from {url}: {error}") from error
    return document


def _date(document: Mapping[str, Any]) -> str:
    date: str = document["publicationDate"]
    return date[:10]


def _matches(document: Mapping[str, Any], rule: Rule) -> Iterator[float]:
    for sku, product in document["products"].items():
        if rule.takes(product["attributes"]):
            yield from _first_tier(document, sku)


def _hosting(document: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The hours of real-time hosting; training, notebooks and asynchronous inference have the same names."""
    for sku, product in document["products"].items():
        attributes = product["attributes"]
        name = attributes.get("instanceName", "")
        if attributes.get("component") == "Hosting" and attributes["usagetype"].endswith(f"Host:{name}"):
            for usd in _first_tier(document, sku):
                yield name, usd


def _first_tier(document: Mapping[str, Any], sku: str) -> Iterator[float]:
    """The price of the first paid unit: of the dimensions that cost something, the one that begins lowest."""
    terms = document["terms"]["OnDemand"].get(sku, {}).values()
    dimensions = [dimension for term in terms for dimension in term["priceDimensions"].values()]
    paid = [d for d in dimensions if float(d["pricePerUnit"].get("USD", 0)) > 0]
    for dimension in sorted(paid, key=lambda d: float(d.get("beginRange", 0)))[:1]:
        yield float(dimension["pricePerUnit"]["USD"])
