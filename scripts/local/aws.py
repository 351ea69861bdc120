"""The AWS of the laptop cloud: moto's server in a process of ours, taught what turnout's stacks need.

    python -m scripts.local.aws --port 5566

Beside moto's API it serves `POST /turnout/capacity` (what the endpoint host really runs),
`GET /turnout/deployment` (the resource types that moto skipped, and the resources that failed: moto's
CloudFormation says CREATE_COMPLETE in both cases) and `GET /turnout/changes` (how many requests so far may
have changed something: whoever follows the state need not read it again while the number stands).
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

ACCOUNT_ID = "123456789012"
FOLLOWER = "turnout-follower"
"""In the User-Agent of whoever only reads: many of AWS's reads are POST requests."""
WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="scripts.local.aws")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    os.environ["MOTO_PORT"] = str(arguments.port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)

    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import run_simple

    app = build_app(f"http://localhost:{arguments.port}")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    run_simple("127.0.0.1", arguments.port, app, threaded=True, request_handler=MotoRequestHandler)


def leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def build_app(endpoint_url: str) -> WsgiApp:
    """moto's WSGI application with the types, corrections and the three routes above."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    from scripts.local import moto_corrections, moto_inference_components, moto_types

    moto_types.teach_all()
    moto_inference_components.teach_inference_components()
    moto_corrections.correct_all(endpoint_url)
    deployment = watch_deployment()
    moto_app = DomainDispatcherApplication(create_backend_app)
    changes = itertools.count(1)
    latest = 0

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        nonlocal latest
        route = (environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""))
        if route == ("GET", "/turnout/changes"):
            return answer(start_response, {"changes": latest})
        if route == ("POST", "/turnout/capacity"):
            report = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            moto_inference_components.report_capacity(ACCOUNT_ID, report["region"], report)
            latest = next(changes)
            return answer(start_response, {})
        if route == ("GET", "/turnout/deployment"):
            return answer(start_response, {name: sorted(found) for name, found in deployment.items()})
        try:
            return moto_app(environ, start_response)  # type: ignore[no-any-return]  # moto leaves it untyped
        finally:  # after the change, so that whoever sees the number sees the change
            if route[0] not in ("GET", "HEAD") and FOLLOWER not in environ.get("HTTP_USER_AGENT", ""):
                latest = next(changes)

    return app


def answer(start_response: Callable[..., Any], body: object) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]


def watch_deployment() -> dict[str, set[str]]:
    """Two sets that fill as stacks deploy: `skipped` types, and `failed` resources with their error."""
    from moto.cloudformation import parsing

    found: dict[str, set[str]] = {"skipped": set(), "failed": set()}
    class_of, create = parsing.resource_class_from_type, parsing.parse_and_create_resource

    def watched_class(resource_type: str) -> Any:
        known: Any = class_of(resource_type)
        if known is None and resource_type not in parsing.NULL_MODELS:
            found["skipped"].add(resource_type)
        return known

    def watched_create(logical_id: str, resource_json: dict[str, Any], *rest: Any, **named: Any) -> Any:
        try:
            return create(logical_id, resource_json, *rest, **named)
        except Exception as error:
            found["failed"].add(f"{logical_id} ({resource_json['Type']}): {type(error).__name__}: {error}")
            raise

    parsing.resource_class_from_type = watched_class
    parsing.parse_and_create_resource = watched_create
    return found


if __name__ == "__main__":
    main()
