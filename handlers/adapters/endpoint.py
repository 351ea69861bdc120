"""The GPU endpoint behind `sagemaker-runtime`: one call, one timeout, one class of error each.

The boto3 client signs and parses. The connection is ours: botocore fixes its timeouts when a client is made,
and a call here may take what is left of one request's deadline. Nothing is retried behind the caller's back.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import boto3
import numpy as np
import urllib3
from botocore.awsrequest import AWSResponse, HeadersDict
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as HttpTimeout

from handlers.errors import (
    EndpointAsleep,
    EndpointFailed,
    EndpointGarbage,
    EndpointThrottled,
    EndpointTimeout,
    InvalidInput,
)
from handlers.protocol.infer import encode_request, parse_outputs
from handlers.protocol.tensors import Tensor

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.compat import HTTPHeaders
    from numpy.typing import NDArray

    from handlers.serving.manifest import TensorSpec

MEDIA_TYPE = "application/vnd.sagemaker-triton.binary+json"
SIZE_PARAMETER = "json-header-size="
MAX_CONNECTIONS = 16
_ASLEEP = ("no capacity", "nocapacity", "not in service", "inference component is not")


class GpuEndpoint:
    """Implements `serving.paths.GpuPath`; safe to call from several threads."""

    def __init__(
        self, region: str, endpoint: str, component: str, tensors: Sequence[TensorSpec], output: TensorSpec
    ) -> None:
        self._target = {"EndpointName": endpoint}
        if component:
            self._target["InferenceComponentName"] = component
        self._tensors = tensors
        self._output = output
        self._limits = threading.local()
        self._pool = urllib3.PoolManager(
            maxsize=MAX_CONNECTIONS, retries=False, ssl_context=ssl.create_default_context()
        )
        config = Config(
            region_name=region,
            retries={"total_max_attempts": 1},
            parameter_validation=False,
            tcp_keepalive=True,
        )
        self._client = boto3.client("sagemaker-runtime", config=config)
        self._client.meta.events.register("before-send.sagemaker-runtime", self._send)

    def infer(self, arrays: Sequence[NDArray[Any]], timeout_s: float, priority: str) -> NDArray[np.float32]:
        """Raw logits or values, FP32 [items, K], for the graph tensors `arrays`.

        Raises EndpointTimeout after `timeout_s`, and EndpointAsleep, EndpointThrottled, EndpointFailed or
        EndpointGarbage as soon as it is known.
        """
        carried = [
            Tensor(spec.name, spec.dtype, array) for spec, array in zip(self._tensors, arrays, strict=True)
        ]
        body, size = encode_request(carried)
        self._limits.timeout_s = timeout_s
        try:
            reply = self._client.invoke_endpoint(
                **self._target,
                ContentType=f"{MEDIA_TYPE};{SIZE_PARAMETER}{size}",
                Accept=MEDIA_TYPE,
                CustomAttributes=f"deadline_ms={timeout_s * 1000.0:.1f},priority={priority}",
                Body=body,
            )
            content = reply["Body"].read()
        except ClientError as error:
            raise _of_client_error(error) from error
        except HttpTimeout as error:
            raise EndpointTimeout(f"no answer within {timeout_s * 1000.0:.0f} ms") from error
        except (BotoCoreError, HTTPError, OSError) as error:
            raise EndpointFailed(f"{type(error).__name__}: {error}") from error
        return decode(content, reply.get("ContentType", ""), self._output, len(arrays[0]))

    def _send(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        raw = self._pool.request(
            request.method,
            request.url,
            body=cast("bytes", request.body),
            headers=dict(request.headers.items()),
            timeout=urllib3.Timeout(total=self._limits.timeout_s),
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        return AWSResponse(request.url, raw.status, cast("HTTPHeaders", HeadersDict(raw.headers)), raw)


def decode(content: bytes, content_type: str, output: TensorSpec, items: int) -> NDArray[np.float32]:
    """The endpoint's one output, checked. Raises EndpointGarbage for anything but what the manifest says."""
    _, _, size = content_type.partition(SIZE_PARAMETER)
    try:
        outputs = parse_outputs(content, size or None)
        array = outputs[output.name].array
    except (InvalidInput, KeyError) as error:
        raise EndpointGarbage(f"not an infer response with {output.name!r}: {error}") from error
    expected = (items, *output.shape[1:])
    if array.shape != expected or array.dtype != np.float32:
        raise EndpointGarbage(f"{output.name} is {array.dtype} {array.shape}, not float32 {expected}")
    return array


def _of_client_error(error: ClientError) -> Exception:
    response = cast("dict[str, Any]", error.response)
    details, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, text = details.get("Code", ""), f"{details.get('Code')}: {details.get('Message')}"
    original = response.get("OriginalStatusCode")
    if any(word in text.lower() for word in _ASLEEP) or code == "ModelNotReadyException":
        return EndpointAsleep(text)
    if original == 429 or metadata.get("HTTPStatusCode") == 429 or code == "ThrottlingException":
        return EndpointThrottled(text, _retry_after_s(metadata.get("HTTPHeaders", {})))
    return EndpointFailed(text)


def _retry_after_s(headers: dict[str, str]) -> float | None:
    with contextlib.suppress(ValueError, KeyError):
        return max(0.0, float(headers["retry-after"]))
    return None
