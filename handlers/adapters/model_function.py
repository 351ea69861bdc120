"""The CPU path of a front: the model's own function, invoked directly.

The payload is the very event that API Gateway would send, so the model's function needs no second door.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from handlers.errors import EndpointFailed, EndpointGarbage, EndpointThrottled, EndpointTimeout, InvalidInput
from handlers.protocol.http import FRONT
from handlers.protocol.infer import HEADER_LENGTH, encode_request, parse_outputs
from handlers.serving.postprocess import Scored, from_wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from handlers.protocol.tensors import Tensor
    from handlers.serving.paths import Job


class ModelFunction:
    """Implements `serving.paths.CpuPath`; `client` gives the boto3 Lambda client."""

    def __init__(self, client: Callable[[], Any], function: str, model: str, task: str) -> None:
        self._client = client
        self._function = function
        self._model = model
        self._task = task

    def answer(self, job: Job, timeout_s: float) -> Scored:
        """Invoke and wait."""
        return self.invoke(job.wire, timeout_s)

    def attempt(self, job: Job, timeout_s: float) -> ModelAttempt:
        """Prepare one invocation."""
        return ModelAttempt(self, job.wire, timeout_s)

    def invoke(self, wire: tuple[Tensor, ...], timeout_s: float) -> Scored:
        """Ask for a CPU answer. Raises EndpointError when none comes."""
        body, size = encode_request(wire, binary_outputs=True)
        event = {
            "version": "2.0",
            "rawPath": f"/v2/models/{self._model}/infer",
            "headers": {
                HEADER_LENGTH: str(size),
                "x-turnout-path": "cpu",
                "x-turnout-latency-slo-ms": f"{min(30_000.0, max(1.0, timeout_s * 1000.0)):.3f}",
            },
            "requestContext": {"http": {"method": "POST"}, "stage": "$default", "accountedBy": FRONT},
            "body": base64.b64encode(body).decode("ascii"),
            "isBase64Encoded": True,
        }
        return self._answer(self._sent(json.dumps(event).encode()))

    def _sent(self, payload: bytes) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

        try:
            reply = self._client().invoke(FunctionName=self._function, Payload=payload)
            content = reply["Payload"].read()
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            kind = EndpointThrottled if code == "TooManyRequestsException" else EndpointFailed
            raise kind(f"model function: {error}") from error
        except (ReadTimeoutError, ConnectTimeoutError) as error:
            raise EndpointTimeout(f"model function: {error}") from error
        except (BotoCoreError, OSError) as error:
            raise EndpointFailed(f"model function: {error}") from error
        try:
            result: dict[str, Any] = json.loads(content)
        except ValueError as error:
            raise EndpointGarbage(f"model function: {content[:100]!r}") from error
        if "FunctionError" in reply or result.get("statusCode") != 200:
            raise EndpointFailed(f"model function: {content[:300].decode(errors='replace')}")
        return result

    def _answer(self, result: dict[str, Any]) -> Scored:
        try:
            content = base64.b64decode(result["body"], validate=True)
            return from_wire(parse_outputs(content, result["headers"][HEADER_LENGTH]), self._task)
        except (KeyError, ValueError, InvalidInput) as error:
            raise EndpointGarbage(f"model function: {error!r}") from error


class ModelAttempt:
    """One invocation; Lambda cannot be told to stop, so `stop` lets it finish unheard."""

    def __init__(self, function: ModelFunction, wire: tuple[Tensor, ...], timeout_s: float) -> None:
        self._function = function
        self._wire = wire
        self._timeout_s = timeout_s

    def run(self) -> Scored:
        """Invoke and wait."""
        return self._function.invoke(self._wire, self._timeout_s)

    def stop(self) -> None:
        """Nothing to do."""
