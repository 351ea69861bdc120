"""Releases as they are published: the pointer in SSM, the files in S3."""

from __future__ import annotations

import json

from handlers.adapters.signed_http import Reply, SignedHttp
from handlers.errors import PointerMissing, ReleaseError


class ReleaseStore:
    """Implements `serving.release.ReleaseSource`."""

    def __init__(self, http_client: SignedHttp, bucket: str, model: str, pointer: str) -> None:
        self._http = http_client
        self._bucket = bucket
        self._model = model
        self._pointer = pointer

    def pointer(self) -> str:
        """The parameter's value. Raises PointerMissing when there is none, ReleaseError otherwise."""
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "AmazonSSM.GetParameter"}
        body = json.dumps({"Name": self._pointer}).encode()
        reply = self._call("ssm", "POST", "/", f"pointer {self._pointer}", headers, body)
        if reply.status == 200:
            return str(json.loads(reply.body)["Parameter"]["Value"])
        if b"ParameterNotFound" in reply.body:
            raise PointerMissing(
                f"pointer {self._pointer}: the SSM parameter does not exist; deploy creates it"
            )
        raise ReleaseError(f"pointer {self._pointer}: SSM answered {reply.status}: {_short(reply)}")

    def read(self, release: str, name: str) -> bytes:
        """One file of a release. Raises ReleaseError when S3 does not give it."""
        path = f"/{self._bucket}/releases/{self._model}/{release}/{name}"
        what = f"s3:/{path}"
        reply = self._call("s3", "GET", path, what)
        if reply.status != 200:
            raise ReleaseError(f"{what}: S3 answered {reply.status}: {_short(reply)}")
        return reply.body

    def _call(
        self,
        service: str,
        method: str,
        path: str,
        what: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        try:
            return self._http.call(service, method, path, headers, body)
        except OSError as error:
            raise ReleaseError(f"{what}: {service} cannot be reached ({error!r})") from error


def _short(reply: Reply) -> str:
    return reply.body[:200].decode(errors="replace")
