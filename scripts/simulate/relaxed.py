"""A bound that no design can undercut in the replay: what each minute costs at least, by instance count.

Instance counts change on the control loop's ticks, so time is cut into blocks of `TICK_S`. Within a block
with n instances the clairvoyant chooses which requests the GPU answers, and how; all that it need not obey
is left out, all that the replay's physics force on everybody is kept:

- A request answered on the CPU costs its fees and the mean CPU time in a warm colocated function, and its
  stated value if it needed the GPU's answer. There are no cold starts and no second invocations. (The mean:
  who knows when requests come does not know how the dice of their service times will fall.)
- A request answered on the GPU costs its fees and the wait of the cheaper function: the network's mean and
  one batch. A batch of b takes τ(b), so an instance that is always busy with batches of b serves b / τ(b)
  requests/s with b waiting (Little): the least wait for a rate is the lower convex hull of those points.
- The GPU is given D seconds for an answer: until `STANDBY_MARGIN_MS` before the objective where only it will
  do, else until the standby must be asked for (`gpu_within_ms`), as everywhere in turnout. What arrives in
  any stretch of t seconds is therefore served within t + D seconds, by instances that were ready when it
  came, at r = max b / τ(b) each:  served ≤ n · r · (t + D)  for every stretch. Such sets of requests are a
  polymatroid, a token bucket of depth n·r·D that fills at n·r: the greedy choice, those that need the GPU
  first, is the best one (Edmonds 1970), and its size is one pass of the bucket for them and one for all.
- When the count changes the bucket is full again. While it stays, a block adds at most what it adds to the
  block before alone: the best choice is a weighted rank, hence submodular, so the sum over a stay bounds it.
- An instance is charged for every block it is ready in, and for its start only the whole blocks before that:
  order to end, which is what the replay bills, is never less.

Left out on purpose: a request that is refused (429) costs almost nothing, so a design that refuses some may
be cheaper than this; instances that die pay no rent for the rest of their block.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import floor

import numpy as np
from numpy.typing import NDArray

from handlers.routing.forecast import batch_ms
from handlers.routing.policy import STANDBY_MARGIN_MS, decide, gpu_within_ms
from handlers.routing.snapshot import Snapshot, Topology, capacity_of
from handlers.routing.types import Local, Path, Request

from .draws import Draws, needing
from .optimum import Costs
from .scenario import Scenario
from .trace import Trace

TICK_S = 60.0
CHUNK = 512

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Server:
    """What the GPU can do for a request, in the bound's terms; the first of a pair is for those that need it.

    `segments` of one instance are (requests/s, USD of the wait per request), cheapest first. `gains` are USD
    saved by an answer from the GPU, its batch apart; `within_s` the time D that it has. `slot_s` is the
    resolution of arrivals in a block.
    """

    segments: tuple[tuple[float, float], ...]
    gains: tuple[float, float]
    within_s: tuple[float, float]
    slot_s: float
    rent_per_s: float

    @property
    def rate_rps(self) -> float:
        """The most requests/s of one instance."""
        return sum(width for width, _ in self.segments)


@dataclass(frozen=True, slots=True)
class BlockCosts:
    """The least USD of each block by instance count, rent included, shape [blocks, most + 1]: in a block
    whose count is new (`entered`), and in one whose count was that of the block before (`stayed`)."""

    entered: Costs
    stayed: Costs


def block_costs(scenario: Scenario, trace: Trace, draws: Draws, most: int) -> BlockCosts:
    """Work out the bound's costs for a trace and the chance drawn for it."""
    economics = scenario.economics
    needs = needing(scenario, draws)
    cpu_usd = economics.lambda_usd(1000.0 * float(np.mean(draws.cpu_s)), economics.model_memory_mb)
    fees = economics.front_door_request + economics.lambda_request
    blocks = max(1, int(np.ceil(trace.duration_s / TICK_S - 1e-9)))
    block = np.minimum((trace.times / TICK_S).astype(np.int64), blocks - 1)
    paid = np.bincount(block, fees + cpu_usd + needs * economics.missed_escalation_usd, minlength=blocks)
    costs: Costs = np.repeat(paid[:, None].astype(np.float64), most + 1, axis=1)
    if most == 0:
        return BlockCosts(costs, costs)
    server = server_of(scenario, cpu_usd, float(np.mean(draws.network_s)))
    length_s = np.full(blocks, TICK_S)
    length_s[-1] = trace.duration_s - TICK_S * (blocks - 1)
    costs += length_s[:, None] * server.rent_per_s * np.arange(most + 1)
    slots = round(TICK_S / server.slot_s)
    slot = np.clip(((trace.times - block * TICK_S) / server.slot_s).astype(np.int64), 0, slots - 1)
    at = (block * slots + slot) * 2
    counts = np.bincount(at + 1, minlength=blocks * slots * 2) + np.bincount(
        at[needs], minlength=blocks * slots * 2
    )
    return _less_saved(costs, counts.reshape(blocks, slots, 2).astype(np.float64), length_s, server)


def _less_saved(costs: Costs, counts: Floats, length_s: Floats, server: Server) -> BlockCosts:
    """Take off what the GPU saves; `counts` are arrivals by block, slot, and (needing, all)."""
    entered, stayed = costs.copy(), costs.copy()
    sizes = np.arange(costs.shape[1], dtype=np.float64)
    rates = sizes * server.rate_rps
    deep = np.outer(rates, (server.within_s[0], max(server.within_s)))
    # What a stay might win by serving some requests in the next block, where they may wait for less.
    spared = min(server.segments[-1][1], max(server.gains)) - server.segments[0][1]
    moved = deep[:, 1] * max(0.0, spared)
    left_over = deep[None]
    for first in range(0, len(costs), CHUNK):
        part = slice(first, first + CHUNK)
        full = np.broadcast_to(deep, (len(counts[part]), *deep.shape))
        alone, ended = _served(counts[part], full, deep, rates * server.slot_s)
        before = np.concatenate((left_over, ended[:-1]))
        after, _ = _served(counts[part], before, deep, rates * server.slot_s)
        left_over = ended[-1:]
        entered[part] -= _saved(alone, length_s[part], sizes, server)
        stayed[part] -= _saved(after, length_s[part], sizes, server) + moved
    return BlockCosts(entered, np.maximum(entered, stayed))


def _served(counts: Floats, tokens: Floats, deep: Floats, filling: Floats) -> tuple[Floats, Floats]:
    """The most served of (needing, all) in each block, and the buckets at its end: [blocks, sizes, 2]."""
    served = np.zeros(tokens.shape)
    for slot in range(counts.shape[1]):
        tokens = np.minimum(tokens, deep) + filling[:, None]
        taken = np.minimum(tokens, counts[:, slot, None, :])
        served += taken
        tokens = tokens - taken
    return served, np.minimum(tokens, deep)


def _saved(served: Floats, length_s: Floats, sizes: Floats, server: Server) -> Floats:
    """USD that the GPU saves in each block by instance count: shape [blocks, sizes]."""
    left = np.diff(served, axis=2, prepend=0.0)
    saved = np.zeros(left.shape[:2])
    for width, wait_usd in server.segments:
        room = (length_s + max(server.within_s))[:, None] * width * sizes
        for kind, gain in enumerate(server.gains):
            if gain > wait_usd:
                taken = np.minimum(room, left[:, :, kind])
                saved += taken * (gain - wait_usd)
                room = room - taken
                left[:, :, kind] -= taken
    return saved


def server_of(scenario: Scenario, cpu_usd: float, network_s: float) -> Server:
    """The instance of a scenario that has a GPU, where a CPU answer costs `cpu_usd`."""
    gpu, economics = scenario.profile.gpu, scenario.economics
    if gpu is None:
        raise ValueError("the scenario has no GPU")
    capacity = capacity_of(gpu, 1, 0)
    taus = {size: batch_ms(capacity, size) for size in range(1, gpu.max_batch + 1)}
    waiting_usd = economics.lambda_usd(1000.0, min(economics.front_memory_mb, economics.model_memory_mb))
    needed_s = max(0.0, scenario.latency_slo_ms - STANDBY_MARGIN_MS) / 1000.0
    within_s = min(needed_s, max(_within_s(scenario, topology) for topology in Topology))
    gain = cpu_usd - network_s * waiting_usd
    return Server(
        segments=tuple((width, wait_s * waiting_usd) for width, wait_s in wait_segments(taus)),
        gains=(gain + economics.missed_escalation_usd, gain),
        within_s=(needed_s if scenario.escalation_share > 0.0 else within_s, within_s),
        slot_s=TICK_S / round(TICK_S / min(0.5, max(0.02, within_s / 8.0))),
        rent_per_s=economics.gpu_second_usd(),
    )


def _within_s(scenario: Scenario, topology: Topology) -> float:
    """How long the router waits for the GPU where the standby is as good, s: its own answer."""
    told = Snapshot.from_profile(scenario.profile, scenario.economics, topology=topology, gpu_ready=1)
    asked = Request(scenario.latency_slo_ms, scenario.attainment, path=Path.GPU)
    return gpu_within_ms(decide(asked, told, Local(), 0.0)) / 1000.0


def start_usd(scenario: Scenario) -> float:
    """What a start costs at least, beyond the rent of every block in which the instance is ready, USD.

    Where the start is not billed that is less than nothing: the first block is paid from within.
    """
    gpu = scenario.profile.gpu
    if gpu is None:
        return 0.0
    before = blocks_of_start(scenario) if gpu.startup_billed else -1
    return scenario.economics.gpu_second_usd() * TICK_S * before


def blocks_of_start(scenario: Scenario) -> int:
    """The whole blocks between an order and the first in which the instance may be ready."""
    gpu = scenario.profile.gpu
    return 0 if gpu is None else floor(gpu.startup_s * (1.0 - scenario.cloud.startup_spread) / TICK_S)


def size_needed(scenario: Scenario, trace: Trace) -> int:
    """The most instances that could be of use: enough for the busiest second, some to shorten its waits."""
    if not scenario.has_gpu:
        return 0
    peak = trace.counts(1.0).max() / server_of(scenario, 0.0, 0.0).rate_rps
    return int(min(scenario.max_instances, np.ceil(1.1 * peak) + 1))


def wait_segments(batch_ms: dict[int, float]) -> tuple[tuple[float, float], ...]:
    """The (requests/s, seconds of wait per request) segments of one instance, from the hull."""
    points = sorted({(1000.0 * size / ms, float(size)) for size, ms in batch_ms.items()} | {(0.0, 0.0)})
    hull: list[tuple[float, float]] = []
    for rate, inflight in points:
        while hull and hull[-1][1] >= inflight:
            hull.pop()
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], (rate, inflight)):
            hull.pop()
        if not hull or rate > hull[-1][0]:
            hull.append((rate, inflight))
    return tuple((right[0] - left[0], _slope(left, right)) for left, right in pairwise(hull))


def _slope(left: tuple[float, float], right: tuple[float, float]) -> float:
    rise = right[1] - left[1]
    return rise / (right[0] - left[0]) if right[0] > left[0] else float("inf")
