"""What a Lambda function costs: the one dated price table that the build's cost figures use."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from handlers.routing.profile import MB_PER_VCPU

MEMORIES_MB = (256, 512, 768, 1024, 1769, 2048, 3008, 3538, 5307, 10240)


@dataclass(frozen=True, slots=True)
class LambdaPrice:
    """USD per GB-second of duration and per request, with where and when they were read."""

    gb_s_usd: float
    request_usd: float
    source: str
    as_of: str


ARM64 = LambdaPrice(
    0.0000133334, 0.0000002, "AWS Price List, us-east-1, Lambda arm64, first tier", "2026-09-19"
)
X86_64 = LambdaPrice(
    0.0000166667, 0.0000002, "AWS Price List, us-east-1, Lambda x86_64, first tier", "2026-09-19"
)


def vcpu(memory_mb: int) -> float:
    """The CPU share of a function: one vCPU at 1,769 MB, in proportion."""
    return memory_mb / MB_PER_VCPU


def threads(memory_mb: int) -> int:
    """Threads worth having: one below two vCPU, where a second one only waits."""
    return max(1, memory_mb // MB_PER_VCPU)


def usd_per_million(
    price: LambdaPrice, memory_mb: int, mean_ms: float, init_ms: float, cold_share: float
) -> float:
    """USD of a million requests: request price + billed duration (rounded up to 1 ms) + billed init.

    `mean_ms`: duration of a warm call; `cold_share`: share of calls that pay `init_ms` as well (Lambda
    bills the init phase since 2025-08-01).
    """
    gb = memory_mb / 1024
    seconds = ceil(mean_ms) / 1000 + cold_share * ceil(init_ms) / 1000
    return 1e6 * (price.request_usd + seconds * gb * price.gb_s_usd)
