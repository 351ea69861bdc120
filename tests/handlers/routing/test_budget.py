"""Given a limit shared by many sandboxes, when they spend, then the stated bound holds, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import hypothesis.strategies as st
import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from moto import mock_aws

from handlers.adapters.budget_store import BudgetStore
from handlers.errors import InvalidConfig
from handlers.routing.budget import AHEAD, MOST_GRANT, Account, Budget, budgets_of

NOW = datetime(2026, 12, 31, 23, 59, 30, tzinfo=UTC).timestamp()
DAY = Budget("digits", 1.0, "day")


def test_windows_are_named_and_end_in_utc() -> None:
    keys = {window: Budget("m", 1.0, window).key(NOW) for window in ("hour", "day", "month")}
    assert keys == {"hour": "2026-12-31T23", "day": "2026-12-31", "month": "2026-12"}
    assert {Budget("m", 1.0, window).resets_in_s(NOW) for window in ("hour", "day", "month")} == {30.0}


def test_settings_name_a_budget_for_the_model_and_one_for_each_caller() -> None:
    both = budgets_of({"usd": 5.0, "window": "hour", "caller_usd": 0.5}, "digits", "key-1")
    assert both == (Budget("digits", 5.0, "hour"), Budget("digits#key-1", 0.5, "hour"))
    assert budgets_of({}, "digits", "key-1") == ()


@pytest.mark.parametrize(("raw", "key"), [({"usd": 0.0}, "usd"), ({"window": "week"}, "window")])
def test_wrong_settings_are_named(raw: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidConfig, match=key):
        budgets_of(raw, "digits", "")


COST = 0.001


class Sandboxes(RuleBasedStateMachine):
    """Sandboxes of one budget, whose grants come back late; the counter is DynamoDB's conditional write."""

    def __init__(self) -> None:
        super().__init__()
        self.counter = 0.0
        self.accounts = [Account().at("today") for _ in range(5)]
        self.asked: list[tuple[Account, Account] | None] = [None] * 5
        self.spent = 0.0
        self.lost = 0.0

    def ask(self, account: Account, wanted: float, reachable: bool) -> Account:
        if not reachable:
            self.lost += 0.0 if account.on_credit else wanted
            return account.unreachable(wanted)
        if self.counter + wanted > DAY.limit_usd:
            return account.refused(self.counter)
        self.counter += wanted
        return account.granted(wanted, self.counter)

    @rule(
        i=st.integers(0, 4), over=st.floats(0.5, 1.5), reachable=st.booleans(), back=st.booleans()
    )  # fmt: skip
    def request(self, i: int, over: float, reachable: bool, back: bool) -> None:
        account, asked = self.accounts[i], self.asked[i]
        wanted = account.wanted_usd(DAY, COST)
        if wanted is not None and asked is None:
            asked = account, self.ask(account, wanted, reachable)
        if asked is not None and (back or account.must_wait(COST)):
            account, asked = account.joined(*asked), None
        view = account.view(DAY, COST, NOW)
        if view.spent_usd < view.limit_usd:
            account = account.charged(COST * over)
            self.spent += COST * over
        self.accounts[i], self.asked[i] = account, asked

    @invariant()
    def never_more_than_the_bound(self) -> None:
        sandboxes, most_over = len(self.accounts), 0.5 * COST
        trust = sandboxes * (AHEAD * (COST + most_over) + most_over)
        assert self.spent <= DAY.limit_usd + trust + self.lost + 1e-9

    @invariant()
    def the_counter_never_passes_the_limit(self) -> None:
        assert self.counter <= DAY.limit_usd + 1e-9


TestSandboxes = Sandboxes.TestCase
TestSandboxes.settings = settings(deadline=None, max_examples=40, stateful_step_count=80)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20), st.floats(2e-4, 5e-3))
def test_when_all_refuse_nearly_all_is_spent(sandboxes: int, cost: float) -> None:
    counter, spent, grants = 0.0, 0.0, 0.0
    accounts = [Account().at("today") for _ in range(sandboxes)]
    while not all(account.closed and account.left_usd < cost for account in accounts):
        for i, account in enumerate(accounts):
            wanted = account.wanted_usd(DAY, cost)
            if wanted is not None:
                grants = max(grants, wanted)
                if counter + wanted <= DAY.limit_usd:
                    counter += wanted
                    account = account.granted(wanted, counter)
                else:
                    account = account.refused(counter)
            if account.left_usd >= cost:
                account = account.charged(cost)
                spent += cost
            accounts[i] = account
    assert DAY.limit_usd - (sandboxes + 1) * (grants + AHEAD * cost) <= spent <= DAY.limit_usd + 1e-9


@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        dynamodb = boto3.client(
            "dynamodb", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        dynamodb.create_table(
            TableName="state",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": n, "KeyType": t} for n, t in (("pk", "HASH"), ("sk", "RANGE"))],
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk")],
        )
        yield dynamodb


def test_sandboxes_share_the_counter_in_the_table(client: Any) -> None:
    store, cost = BudgetStore(client, "state"), 0.004
    accounts, spent = [Account() for _ in range(3)], 0.0
    for turn in range(1_000):
        i = turn % 3
        account = store.covered(accounts[i], DAY, cost, NOW)
        view = account.view(DAY, cost, NOW)
        if view.spent_usd < view.limit_usd:
            account, spent = account.charged(cost), spent + cost
        accounts[i] = account
    assert all(account.closed for account in accounts)
    assert 1.0 - 4 * (DAY.limit_usd * MOST_GRANT + AHEAD * cost) <= spent <= 1.0 + 1e-9
    row = client.get_item(TableName="state", Key={"pk": {"S": "budget#digits"}, "sk": {"S": "2026-12-31"}})
    assert 0.99e9 <= float(row["Item"]["spent_nano_usd"]["N"]) <= 1e9


def test_a_new_window_starts_afresh_but_keeps_what_is_owed(client: Any) -> None:
    store = BudgetStore(client, "state")
    account = store.covered(Account(), DAY, 0.004, NOW).charged(0.5)
    tomorrow = store.covered(account, DAY, 0.004, NOW + 60.0)
    assert tomorrow.window == "2027-01-01"
    assert tomorrow.spent_usd == pytest.approx(0.5 - account.granted_usd)
    assert tomorrow.left_usd >= 0.004


def test_without_the_table_one_grant_is_on_credit() -> None:
    class Gone:
        def update_item(self, **_: Any) -> None:
            raise EndpointConnectionError(endpoint_url="https://nowhere")

    store, account, answered = BudgetStore(Gone(), "state"), Account(), 0
    for _ in range(100):
        account = store.covered(account, DAY, 0.001, NOW)
        view = account.view(DAY, 0.001, NOW)
        if view.spent_usd < view.limit_usd:
            account, answered = account.charged(0.001), answered + 1
    assert answered in (9, 10)  # a hundredth of the limit
