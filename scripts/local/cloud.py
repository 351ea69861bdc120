"""The laptop cloud's second process: hosts what moto says is deployed, functions, API, endpoints, schedules.

    python -m scripts.local.cloud --root . --region us-east-1 [--max-sandboxes 8] [--control-every-s 60]

`GET /turnout/status` on the runtime port tells what runs. SIGTERM or SIGINT ends it and all it started.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import math
import os
import signal
import time
import urllib.request
from pathlib import Path

import boto3
import botocore.session
from aiohttp import web
from botocore.exceptions import BotoCoreError, ClientError

from scripts.local import release_upload
from scripts.local.aws import FOLLOWER
from scripts.local.data_plane import DataPlane
from scripts.local.deployed import Variant, read
from scripts.local.endpoint_host import EndpointHost
from scripts.local.endpoint_metrics import NAMESPACE, data
from scripts.local.function_host import FunctionHost
from scripts.local.gateway import Gateway
from scripts.local.gpu_process import GpuProcess
from scripts.local.places import Places
from scripts.local.runtime_folder import make_runtime_folder
from scripts.local.scheduler import Scheduler

log = logging.getLogger("turnout.cloud")
FOLLOW_EVERY_S = 1.0
READ_ANYWAY_S = 10.0  # moto moves some states on when they are read


class Cloud:
    """Everything that runs in this process."""

    def __init__(self, places: Places, max_sandboxes: int, control_every_s: float | None) -> None:
        self.places = places
        reader = botocore.session.get_session()
        reader.user_agent_extra = FOLLOWER
        self.session = boto3.Session(region_name=places.region, botocore_session=reader)
        logs = places.home / "logs"
        self.functions = FunctionHost(
            make_runtime_folder(places.home / "runtime"), places.cache / "functions", logs,
            places.client_environment(), max_sandboxes,
        )  # fmt: skip
        self.endpoints = EndpointHost(self.launch, self.report)
        self.scheduler = Scheduler(self.functions, control_every_s)
        self.gateway = Gateway(self.functions, places.releases)
        self.data_plane = DataPlane(self.functions, self.endpoints, places.aws_url)
        self.cloudwatch = self.session.client("cloudwatch")
        self._logs = logs

    def launch(self, variant: Variant) -> GpuProcess:
        """A GPU server for the variant's model data; the environment is ours, since it needs PyTorch."""
        folder = release_upload.download(self.session, variant.model_data, self.places.cache / "models")
        log_file = self._logs / f"gpu-{variant.name.replace('/', '-')}.log"
        return GpuProcess(variant, folder, self.places.root, log_file, dict(os.environ))

    async def report(self, variant: Variant, current: int) -> None:
        """Tells moto what really runs."""
        what = {"component": variant.component} if variant.component else {
            "endpoint": variant.endpoint, "variant": variant.variant}  # fmt: skip
        body = json.dumps({"region": self.places.region, "current": current, **what}).encode()
        url = f"{self.places.aws_url}/turnout/capacity"
        await asyncio.to_thread(lambda: urllib.request.urlopen(url, data=body).close())  # noqa: S310  # our own

    async def follow(self) -> None:
        """Keeps the hosts in step with AWS."""
        seen, read_at, variants = -1, -math.inf, list[Variant]()
        while True:
            try:
                changes = await asyncio.to_thread(self.changes)
                if changes != seen or time.monotonic() - read_at > READ_ANYWAY_S:
                    deployed = await asyncio.to_thread(read, self.session)
                    self.functions.update(deployed)
                    self.scheduler.follow(deployed.schedules)
                    seen, read_at, variants = changes, time.monotonic(), list(deployed.variants)
                await self.endpoints.follow(variants)
                await asyncio.to_thread(self.put_metrics)
            except (BotoCoreError, ClientError, OSError) as error:
                log.warning("could not read AWS: %s", error)
            await asyncio.sleep(FOLLOW_EVERY_S)

    def changes(self) -> int:
        """How many requests so far may have changed what is deployed."""
        with urllib.request.urlopen(f"{self.places.aws_url}/turnout/changes") as answer:  # noqa: S310  # our own
            return int(json.load(answer)["changes"])

    def put_metrics(self) -> None:
        """Puts the endpoints' finished minutes into CloudWatch, as SageMaker does."""
        now = time.time()
        for fleet in list(self.endpoints.fleets.values()):
            for minute, seen in fleet.metrics.take(now):
                self.cloudwatch.put_metric_data(
                    Namespace=NAMESPACE, MetricData=data(fleet.variant, minute, seen)
                )

    async def status(self, _request: web.Request) -> web.Response:
        body = {
            "functions": self.functions.status(),
            "endpoints": self.endpoints.status(),
            "control_runs": self.scheduler.runs,
            "apis": [api.name for api in self.functions.deployed.apis],
        }
        return web.json_response(body)

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set, then ends everything."""
        self.functions.update(await asyncio.to_thread(read, self.session))
        await self.endpoints.open()
        runners = [
            await serve(self.gateway.app(), self.places.api_port),
            await serve(self.data_plane.app(self.status), self.places.runtime_port),
        ]
        following = asyncio.create_task(self.follow())
        await stop.wait()
        following.cancel()
        self.scheduler.close()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        for runner in runners:
            await runner.cleanup()
        await asyncio.gather(self.functions.close(), self.endpoints.close())


async def serve(app: web.Application, port: int) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


async def serve_until_told(places: Places, max_sandboxes: int, control_every_s: float | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Cloud(places, max_sandboxes, control_every_s).run(stop)


def main() -> None:
    """Reads the ports from the environment, as `Places` does."""
    parser = argparse.ArgumentParser(prog="scripts.local.cloud")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--max-sandboxes", type=int, default=8)
    parser.add_argument("--control-every-s", type=float, default=None)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)
    places = Places.from_env(arguments.root, os.environ, arguments.region)
    os.environ.update(places.client_environment())
    del os.environ["AWS_ENDPOINT_URL_LAMBDA"]  # this process asks moto itself; others come through us
    asyncio.run(serve_until_told(places, arguments.max_sandboxes, arguments.control_every_s))


if __name__ == "__main__":
    main()
