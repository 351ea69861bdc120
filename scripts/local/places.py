"""Where the laptop cloud lives: its ports, its folder, and the environment that leads AWS clients to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from handlers.errors import InvalidConfig

ACCOUNT_ID = "123456789012"
PORTS = {"TURNOUT_API_PORT": 8080, "TURNOUT_AWS_PORT": 5566, "TURNOUT_RUNTIME_PORT": 5567}


@dataclass(frozen=True, slots=True)
class Places:
    """One laptop cloud: `root` is the project's folder, the ports are those on 127.0.0.1.

    `runtime_port` serves the two data planes: Lambda's Invoke and SageMaker's InvokeEndpoint.
    """

    root: Path
    region: str
    api_port: int
    aws_port: int
    runtime_port: int
    releases: Path

    @classmethod
    def from_env(cls, root: Path, environ: Mapping[str, str], region: str = "us-east-1") -> Places:
        """Raises InvalidConfig for a port that is not a number between 1 and 65535."""
        ports = {name: port_of(name, environ.get(name, str(default))) for name, default in PORTS.items()}
        releases = root / environ.get("TURNOUT_RELEASES_DIR", "releases")
        return cls(
            root,
            region,
            ports["TURNOUT_API_PORT"],
            ports["TURNOUT_AWS_PORT"],
            ports["TURNOUT_RUNTIME_PORT"],
            releases,
        )

    @property
    def home(self) -> Path:
        """State and logs of the running cloud."""
        return self.root / ".turnout" / "local"

    @property
    def cache(self) -> Path:
        """What may be kept from one run to the next, named by content."""
        return self.root / ".turnout" / "cache"

    @property
    def api_url(self) -> str:
        return f"http://localhost:{self.api_port}"

    @property
    def aws_url(self) -> str:
        """The word localhost matters: moto finds a template's bucket by it."""
        return f"http://localhost:{self.aws_port}"

    @property
    def runtime_url(self) -> str:
        return f"http://127.0.0.1:{self.runtime_port}"

    def client_environment(self) -> dict[str, str]:
        """What makes any AWS client, in any language, speak to this cloud and to nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": self.runtime_url,
            "AWS_ENDPOINT_URL_LAMBDA": self.runtime_url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def port_of(name: str, text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise InvalidConfig(name, text, "a port number between 1 and 65535")
    return int(text)
