"""The API's route to a model: a stage variable that names the function behind it.

The integration's URI holds `${stageVariables.<variable>}`, so that setting the variable moves the route
between two requests, without a deployment.
"""

from __future__ import annotations

from typing import Any, Protocol


class MovableRoute(Protocol):
    """Where one model's requests go."""

    def target(self) -> str:
        """Return the `function:alias` that the route leads to; empty when it is not set."""
        ...

    def lead_to(self, function: str) -> None:
        """Lead the route to `function`; the other variables stay as they are."""
        ...


class ApiRoute:
    """One stage of an HTTP API; `client` is a boto3 apigatewayv2 client."""

    def __init__(self, client: Any, api_id: str, stage: str, variable: str) -> None:
        self._client = client
        self._api_id, self._stage, self._variable = api_id, stage, variable

    def target(self) -> str:
        """As `MovableRoute.target`."""
        found = self._client.get_stage(ApiId=self._api_id, StageName=self._stage)
        return str(found.get("StageVariables", {}).get(self._variable, ""))

    def lead_to(self, function: str) -> None:
        """As `MovableRoute.lead_to`."""
        found = self._client.get_stage(ApiId=self._api_id, StageName=self._stage)
        variables = {**found.get("StageVariables", {}), self._variable: function}
        self._client.update_stage(ApiId=self._api_id, StageName=self._stage, StageVariables=variables)


class RestRoute:
    """One stage of a REST API; `client` is a boto3 apigateway client."""

    def __init__(self, client: Any, api_id: str, stage: str, variable: str) -> None:
        self._client = client
        self._api_id, self._stage, self._variable = api_id, stage, variable

    def target(self) -> str:
        """As `MovableRoute.target`."""
        found = self._client.get_stage(restApiId=self._api_id, stageName=self._stage)
        return str(found.get("variables", {}).get(self._variable, ""))

    def lead_to(self, function: str) -> None:
        """As `MovableRoute.lead_to`."""
        change = {"op": "replace", "path": f"/variables/{self._variable}", "value": function}
        self._client.update_stage(restApiId=self._api_id, stageName=self._stage, patchOperations=[change])
