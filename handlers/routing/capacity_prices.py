"""What the capacity rule needs to know of a release: prices by path and topology, and an instance's rate.

One place for both the control loop and the planner, so that they scale by the same numbers.
"""

from __future__ import annotations

from .capacity import CapacityEconomics, PathPrices
from .economics import Economics
from .profile import GpuProfile, Profile
from .snapshot import Topology

FILL = 0.9
"""Share of an instance's best throughput that is counted on: beyond it queueing takes the objective."""


def path_prices(profile: Profile, economics: Economics, topology: Topology) -> PathPrices:
    """USD of one request by path when the router runs so; means, as a bill is a sum."""
    fees = economics.front_door_request + economics.lambda_request
    cpu_ms = profile.cpu.service.mean_ms()
    cpu_usd = fees + economics.lambda_usd(cpu_ms, economics.model_memory_mb)
    waiting_mb = economics.model_memory_mb
    if topology is Topology.SPLIT:
        waiting_mb = economics.front_memory_mb
        hop_ms = profile.network.mean_ms()
        cpu_usd += economics.lambda_request + economics.lambda_usd(cpu_ms + hop_ms, waiting_mb)
    gpu_usd = cpu_usd
    if profile.gpu is not None:
        wait_ms = gpu_wait_ms(profile)
        if topology is Topology.COLOCATED:
            # A well-filled GPU has a queue, up to where the CPU would answer first: halfway on average.
            wait_ms = (wait_ms + max(wait_ms, cpu_ms)) / 2.0
        gpu_usd = fees + economics.lambda_usd(wait_ms, waiting_mb)
    return PathPrices(cpu_usd, gpu_usd, economics.missed_escalation_usd)


def gpu_wait_ms(profile: Profile) -> float:
    """How long a request waits for a well-filled GPU: network, half the batching wait, one full batch."""
    if profile.gpu is None:
        return 0.0
    gpu = profile.gpu
    held_ms = gpu.max_wait_ms / 2.0 if gpu.max_batch > 1 else 0.0
    return profile.network.mean_ms() + held_ms + gpu.batch_ms[best_batch(gpu)]


def queue_s(profile: Profile) -> float:
    """How long a request may wait before its batch: in all, the GPU has about the time that the CPU takes
    (`policy.gpu_within_ms`)."""
    if profile.gpu is None:
        return 0.0
    batch_ms = profile.gpu.batch_ms[best_batch(profile.gpu)]
    return max(0.0, profile.cpu.service.at(0.99) - batch_ms) / 1000.0


def best_batch(gpu: GpuProfile) -> int:
    """The batch size of highest throughput among those measured and allowed."""
    sizes = [size for size in gpu.batch_ms if size <= gpu.max_batch]
    return max(sizes, key=lambda size: (size / gpu.batch_ms[size], -size))


def capacity_economics(
    profile: Profile,
    economics: Economics,
    *,
    topology: Topology | None,
    min_instances: int = 0,
    max_instances: int = 1,
    threshold: float | None = None,
) -> CapacityEconomics:
    """The rule's view of a release; `topology` None is `auto`: colocated asleep, split while awake."""
    asleep = topology or Topology.COLOCATED
    awake = topology or Topology.SPLIT
    gpu = profile.gpu
    rate_rps = 0.0
    if gpu is not None:
        size = best_batch(gpu)
        rate_rps = FILL * 1000.0 * size / gpu.batch_ms[size]
    chosen = {} if threshold is None else {"threshold": threshold}
    return CapacityEconomics(
        instance_usd_per_hour=economics.gpu_hour,
        startup_s=0.0 if gpu is None else gpu.startup_s,
        startup_billed=gpu is not None and gpu.startup_billed,
        capacity_rps=rate_rps,
        asleep=path_prices(profile, economics, asleep),
        awake=path_prices(profile, economics, awake),
        min_instances=min_instances,
        max_instances=max_instances if gpu is not None else 0,
        queue_s=queue_s(profile),
        **chosen,
    )
