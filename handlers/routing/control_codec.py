"""The control loop's memory as JSON; what cannot be read is refused, and the loop then starts afresh."""

from __future__ import annotations

import json

from handlers.errors import InvalidInput

from .capacity import CapacityState
from .controller import ControlState
from .route import Route
from .sketch import Sketch
from .snapshot import Topology

SCHEMA_VERSION = 1


def state_to_json(state: ControlState) -> str:
    """Return the body to store; `optimum_usd` and `spent_usd` are there for whoever shows regret."""
    return json.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "snapshot_version": state.snapshot_version,
            "minute": state.minute,
            "capacity": state.capacity.to_json(),
            "route": {"topology": state.route.topology.value, "since": state.route.since},
            "orders": list(state.orders),
            "asked": state.asked,
            "sketches": {key: sketch.to_json() for key, sketch in sorted(state.sketches.items())},
            "spent_usd": state.spent_usd,
            "optimum_usd": state.capacity.optimum_usd,
        },
        separators=(",", ":"),
    )


def state_from_json(body: str) -> ControlState:
    """Read `state_to_json`'s result; raises `InvalidInput` when it is not one."""
    try:
        raw = json.loads(body)
        if raw["schema_version"] != SCHEMA_VERSION:
            raise InvalidInput("control.schema_version", raw["schema_version"], str(SCHEMA_VERSION))
        return ControlState(
            snapshot_version=int(raw["snapshot_version"]),
            minute=int(raw["minute"]),
            capacity=CapacityState.from_json(raw["capacity"]),
            route=Route(Topology(raw["route"]["topology"]), float(raw["route"]["since"])),
            orders=tuple(float(at) for at in raw["orders"]),
            asked=None if raw["asked"] is None else int(raw["asked"]),
            sketches={str(key): Sketch.from_json(value) for key, value in raw["sketches"].items()},
            spent_usd=float(raw["spent_usd"]),
        )
    except InvalidInput:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput("control", f"{type(error).__name__}: {error}", "the schema's fields") from error
