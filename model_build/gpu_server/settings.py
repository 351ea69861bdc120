"""Environment -> typed settings of the GPU server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from handlers.errors import InvalidConfig

Device = Literal["auto", "cpu", "cuda"]
Engine = Literal["eager", "compile", "aot"]
Precision = Literal["release", "tf32", "bf16", "fp16"]

DEFAULT_MODEL_DIR = "/opt/ml/model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one server process does; every field is one `TURNOUT_GPU_*` variable.

    `max_batch` and `max_wait_ms`: None takes the release's profile (else 32 and 2 ms). `max_queue`: requests
    in the house, waiting or in flight; one more is refused. `max_connections`: where 1,024 are ready libuv
    reads on and on, and neither timers nor the workers' answers get a turn. `max_body_bytes`: SageMaker's own
    limit is 25 MB.
    `deadline_ms`: for a request that states none. `drain_s`: how long SIGTERM waits for what is in flight.
    `threads`: PyTorch threads of a worker on CPU. `engine`: how the program runs on the device;
    `cuda_graphs`, `pinned` and `overlap` (one batch is copied while another computes) only matter on CUDA.
    `precision`: `release` runs the program as exported, tf32 lets float32 products take the tensor cores, the
    others cast.
    `emf_s`: seconds between EMF lines on stdout, 0 for none.
    """

    host: str = "0.0.0.0"  # noqa: S104  the container's contract: SageMaker calls from outside it
    port: int = 8080
    model_dir: Path = Path(DEFAULT_MODEL_DIR)
    device: Device = "auto"
    engine: Engine = "eager"
    precision: Precision = "release"
    cuda_graphs: bool = True
    pinned: bool = True
    overlap: bool = True
    threads: int = 1
    max_batch: int | None = None
    max_wait_ms: float | None = None
    max_queue: int = 512
    max_body_bytes: int = 25_000_000
    max_connections: int = 1000
    deadline_ms: float = 60_000.0
    body_timeout_s: float = 10.0
    drain_s: float = 30.0
    emf_s: float = 60.0


def from_environment(environ: Mapping[str, str]) -> Settings:
    """Settings from `TURNOUT_GPU_*` (and SageMaker's SAGEMAKER_BIND_TO_PORT).

    Raises InvalidConfig naming the variable, its value and what is allowed.
    """
    read = _Reader(environ)
    default = Settings()
    port_name = "SAGEMAKER_BIND_TO_PORT" if "SAGEMAKER_BIND_TO_PORT" in environ else "TURNOUT_GPU_PORT"
    return Settings(
        host=read.text("HOST", default.host),
        port=int(read.number_of(port_name, default.port, 0, 65535, whole=True)),
        model_dir=Path(read.text("MODEL_DIR", str(default.model_dir))),
        device=cast(Device, read.choice("DEVICE", default.device, ("auto", "cpu", "cuda"))),
        engine=cast(Engine, read.choice("ENGINE", default.engine, ("eager", "compile", "aot"))),
        precision=cast(Precision, read.choice("PRECISION", default.precision, tuple(get_args(Precision)))),
        cuda_graphs=read.flag("CUDA_GRAPHS", default.cuda_graphs),
        pinned=read.flag("PINNED", default.pinned),
        overlap=read.flag("OVERLAP", default.overlap),
        threads=read.integer("THREADS", default.threads, 1, 1024),
        max_batch=read.optional_integer("MAX_BATCH", 1, 65536),
        max_wait_ms=read.optional_number("MAX_WAIT_MS", 0, 60_000),
        max_queue=read.integer("MAX_QUEUE", default.max_queue, 1, 100_000),
        max_body_bytes=read.integer("MAX_BODY_BYTES", default.max_body_bytes, 1024, 1 << 30),
        max_connections=read.integer("MAX_CONNECTIONS", default.max_connections, 1, 100_000),
        deadline_ms=read.number("DEADLINE_MS", default.deadline_ms, 1, 3_600_000),
        body_timeout_s=read.number("BODY_TIMEOUT_S", default.body_timeout_s, 0.01, 3600),
        drain_s=read.number("DRAIN_S", default.drain_s, 0, 3600),
        emf_s=read.number("EMF_S", default.emf_s, 0, 3600),
    )


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str, default: str) -> str:
        return self._environ.get(f"TURNOUT_GPU_{name}") or default

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value not in allowed:
            raise InvalidConfig(f"TURNOUT_GPU_{name}", value, " | ".join(allowed))
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self.text(name, "1" if default else "0").lower()
        if value not in ("0", "1", "true", "false"):
            raise InvalidConfig(f"TURNOUT_GPU_{name}", value, "0 | 1 | true | false")
        return value in ("1", "true")

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        return int(self.number_of(f"TURNOUT_GPU_{name}", default, low, high, whole=True))

    def number(self, name: str, default: float, low: float, high: float) -> float:
        return self.number_of(f"TURNOUT_GPU_{name}", default, low, high)

    def optional_integer(self, name: str, low: int, high: int) -> int | None:
        return self.integer(name, 0, low, high) if self._environ.get(f"TURNOUT_GPU_{name}") else None

    def optional_number(self, name: str, low: float, high: float) -> float | None:
        return self.number(name, 0, low, high) if self._environ.get(f"TURNOUT_GPU_{name}") else None

    def number_of(self, name: str, default: float, low: float, high: float, *, whole: bool = False) -> float:
        text = self._environ.get(name)
        if not text:
            return default
        allowed = f"{'a whole number' if whole else 'a number'} from {low} to {high}"
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            raise InvalidConfig(name, text, allowed) from None
        if not low <= value <= high:
            raise InvalidConfig(name, text, allowed)
        return value
