"""Starts and ends the laptop cloud as a whole: either everything answers, or nothing is left running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from handlers.errors import LocalCloudError
from scripts.local import preflight, release_upload, state
from scripts.local.deploy import Cdk
from scripts.local.places import ACCOUNT_ID, Places
from scripts.local.state import ProcessRecord, State

START_S = 60.0
READY_S = 120.0


@dataclass(frozen=True, slots=True)
class Options:
    """How the cloud is hosted."""

    max_sandboxes: int = 8
    control_every_s: float | None = None
    gpu_copies: int = 1


Say = Callable[[str], None]


class Supervisor:
    """`say` gets one line for each step that is done."""

    def __init__(self, places: Places, say: Say) -> None:
        self._places, self._say = places, say
        self._logs = places.home / "logs"
        self._started: dict[int, subprocess.Popen[bytes]] = {}

    def up(self, models: list[str], options: Options) -> bool:
        """Starts everything; False when it was running. Raises LocalCloudError with nothing left behind."""
        found = state.load(self._places.home)
        if found is not None and found.phase == "running" and found.alive:
            return False
        if found is not None:
            self._say("ending what an earlier start left behind")
            self.down()
        releases = {model: release_upload.current(self._places.releases, model) for model in models}
        preflight.check(self._places)
        try:
            self._start(releases, options)
        except BaseException:
            self.down()
            raise
        return True

    def down(self) -> bool:
        """Ends everything; False when nothing was running."""
        found = state.load(self._places.home)
        if found is None:
            return False
        state.stop(list(reversed(found.processes)))
        state.forget(self._places.home)
        return True

    def _start(self, releases: Mapping[str, release_upload.LocalRelease], options: Options) -> None:
        places = self._places
        self._logs.mkdir(parents=True, exist_ok=True)
        for old in self._logs.glob("*.log"):
            old.unlink()
        now = State("starting", places.api_port, places.aws_port, places.runtime_port, places.region)
        state.save(places.home, now)
        cdk = Cdk(places, self._logs / "cdk.log")
        with ThreadPoolExecutor(1) as pool:
            synthesized = pool.submit(cdk.synth)
            with self._step("AWS (moto) answers"):
                now = self._spawn(now, "aws", "scripts.local.aws", "--port", str(places.aws_port))
                self._await(now.processes[-1], f"{places.aws_url}/turnout/deployment", START_S)
            with self._step("cdk bootstrap"):
                cdk.bootstrap()
            with self._step("cdk synth, functions packaged"):
                synthesized.result()
        with self._step("cdk deploy, storage"):
            cdk.deploy("turnout-local-storage", say=lambda _: None)
        with self._step("release uploaded: " + ", ".join(f"{m} {r.release}" for m, r in releases.items())):
            publish(places, releases)
        with self._step("cdk deploy, everything"):
            cdk.deploy(say=lambda stack: self._say(f"  {stack}"))
        wake(places, list(releases), options.gpu_copies)
        with self._step("functions, API and endpoints are hosted"):
            every = (
                [] if options.control_every_s is None else ["--control-every-s", str(options.control_every_s)]
            )
            now = self._spawn(
                now, "cloud", "scripts.local.cloud", "--root", str(places.root), "--region", places.region,
                "--max-sandboxes", str(options.max_sandboxes), *every,
            )  # fmt: skip
            self._await(now.processes[-1], f"{places.runtime_url}/turnout/status", START_S)
        for model in releases:
            with self._step(f"{model} is ready"):
                self._await(now.processes[-1], f"{places.api_url}/v2/models/{model}/ready", READY_S)
        state.save(places.home, replace(now, phase="running"))

    @contextmanager
    def _step(self, done: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._say(f"{done} ({time.monotonic() - started:.1f} s)")

    def _spawn(self, now: State, name: str, module: str, *arguments: str) -> State:
        """Starts a module in a process group of its own and records it."""
        log = self._logs / f"{name}.log"
        ports = {
            "TURNOUT_API_PORT": self._places.api_port,
            "TURNOUT_AWS_PORT": self._places.aws_port,
            "TURNOUT_RUNTIME_PORT": self._places.runtime_port,
        }
        environment = {**os.environ, **{key: str(port) for key, port in ports.items()}}
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], cwd=self._places.root, env=environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self._started[process.pid] = process
        following = now.with_process(ProcessRecord(name, process.pid, module, str(log)))
        state.save(self._places.home, following)
        return following

    def _await(self, process: ProcessRecord, url: str, limit_s: float) -> None:
        """Waits for a 200. Raises LocalCloudError when the process ends or the time is up."""
        limit = time.monotonic() + limit_s
        last = "no answer"
        while time.monotonic() < limit:
            status = self._started[process.pid].poll()
            if status is not None:
                told = tail(Path(process.log))
                raise LocalCloudError(
                    f"{process.name} ended with status {status} (log: {process.log})\n{told}"
                )
            try:
                with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # our own port
                    if answer.status == 200:
                        return
            except urllib.error.HTTPError as error:
                last = f"{error.code} {error.read().decode(errors='replace')[:500]}"
            except (OSError, TimeoutError) as error:
                last = str(error)
            time.sleep(0.1)
        raise LocalCloudError(f"{url} is not ready after {limit_s:.0f} s: {last} (logs: {self._logs})")


def publish(places: Places, releases: Mapping[str, release_upload.LocalRelease]) -> None:
    """Uploads each release and sets both pointers: the functions' and the GPU endpoint's."""
    from infra.names import Names

    names = Names("local")
    session = local_session(places)
    for model, release in releases.items():
        release_upload.upload(session, names.bucket(ACCOUNT_ID), release)
        release_upload.point(session, names.pointer(model), release)
        session.client("ssm").put_parameter(
            Name=names.gpu_release(model), Value=release.release, Type="String", Overwrite=True
        )


def wake(places: Places, models: list[str], copies: int) -> None:
    """Asks SageMaker for this many GPU copies of each model; from then on the control loop decides."""
    from infra.names import Names

    sagemaker = local_session(places).client("sagemaker")
    components = {found["InferenceComponentName"] for found in
                  sagemaker.list_inference_components()["InferenceComponents"]}  # fmt: skip
    for name in (Names("local").endpoint(model) for model in models):
        if name in components:
            sagemaker.update_inference_component_runtime_config(
                InferenceComponentName=name, DesiredRuntimeConfig={"CopyCount": copies}
            )


def local_session(places: Places) -> Any:
    """A boto3 session that reaches this cloud only."""
    import boto3

    os.environ.update(places.client_environment())
    return boto3.Session(region_name=places.region)


def status_of(places: Places) -> dict[str, Any]:
    """What runs, for `turnout status`. Raises LocalCloudError when nothing does."""
    found = state.load(places.home)
    if found is None:
        raise LocalCloudError("the laptop cloud is not running: turnout up")
    dead = [process for process in found.processes if not process.alive]
    if dead:
        told = "; ".join(f"{process.name} (log: {process.log})" for process in dead)
        raise LocalCloudError(f"a part of the laptop cloud has died: {told}. Start again: turnout up")
    try:
        with urllib.request.urlopen(f"{places.runtime_url}/turnout/status", timeout=10) as answer:  # noqa: S310
            hosted = json.load(answer)
    except OSError as error:
        raise LocalCloudError(f"the laptop cloud does not answer on {places.runtime_url}: {error}") from None
    return {
        "phase": found.phase,
        "api": places.api_url,
        "aws": places.aws_url,
        "processes": [{"name": p.name, "pid": p.pid, "log": p.log} for p in found.processes],
        **hosted,
    }


def tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.is_file() else ""
