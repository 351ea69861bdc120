"""The API's route to a model: an HTTP API stage variable that names the function behind it."""

from __future__ import annotations

from typing import Any


class ApiRoute:
    """One stage of an HTTP API; `client` is a boto3 apigatewayv2 client.

    The integration's URI holds `${stageVariables.<variable>}`, so that setting the variable moves the route
    between two requests.
    """

    def __init__(self, client: Any, api_id: str, stage: str, variable: str) -> None:
        self._client = client
        self._api_id, self._stage, self._variable = api_id, stage, variable

    def target(self) -> str:
        """Return the `function:alias` that the route leads to; empty when it is not set."""
        found = self._client.get_stage(ApiId=self._api_id, StageName=self._stage)
        return str(found.get("StageVariables", {}).get(self._variable, ""))

    def lead_to(self, function: str) -> None:
        """Lead the route to `function`; the other variables stay as they are."""
        found = self._client.get_stage(ApiId=self._api_id, StageName=self._stage)
        variables = {**found.get("StageVariables", {}), self._variable: function}
        self._client.update_stage(ApiId=self._api_id, StageName=self._stage, StageVariables=variables)
