"""What must be true before the laptop cloud starts, each with the way to make it so."""

from __future__ import annotations

import shutil
import socket
import subprocess

from handlers.errors import LocalCloudError
from scripts.local.places import Places

OLDEST_NODE = 20


def check(places: Places) -> None:
    """Raises LocalCloudError for the first thing that is missing."""
    check_project(places)
    check_node()
    check_ports(places)


def check_project(places: Places) -> None:
    for name in ("cdk.json", "turnout.toml"):
        if not (places.root / name).is_file():
            raise LocalCloudError(f"{places.root} has no {name}: run turnout in the project's folder")
    if not (places.root / "node_modules" / ".bin" / "cdk").exists():
        raise LocalCloudError("the CDK command line is not installed: npm ci")


def check_node() -> None:
    node = shutil.which("node")
    if node is None:
        raise LocalCloudError(
            f"Node is not on the PATH: the CDK command line needs Node {OLDEST_NODE} or newer"
        )
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    major = told.removeprefix("v").partition(".")[0]
    if not major.isdigit() or int(major) < OLDEST_NODE:
        raise LocalCloudError(
            f"node --version says {told!r}: the CDK command line needs {OLDEST_NODE} or newer"
        )


def check_ports(places: Places) -> None:
    wanted = {
        "TURNOUT_API_PORT": places.api_port,
        "TURNOUT_AWS_PORT": places.aws_port,
        "TURNOUT_RUNTIME_PORT": places.runtime_port,
    }
    if len(set(wanted.values())) < len(wanted):
        raise LocalCloudError(f"two of the ports are the same: {wanted}")
    for name, port in wanted.items():
        if in_use(port):
            raise LocalCloudError(
                f"port {port} is in use by another program: stop it, or set {name} to a free port"
            )


def in_use(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
