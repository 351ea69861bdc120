"""The bench model behind mosec: `python mosec_app.py --port N`, what to serve in BENCH_ORDERS.

Runs in the peers' environment: imports nothing of turnout.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import orjson
import torch
from mosec import Server, Worker
from torch.export.passes import move_to_device_pass

ORDERS = json.loads(os.environ["BENCH_ORDERS"])
BINARY = ORDERS["kind"] == "binary"
DTYPE = {"FP32": np.float32, "INT64": np.int64}[ORDERS["datatype"]]
ROW = tuple(ORDERS["shape"])


class Model(Worker):
    """One process; batches are formed by mosec's front."""

    def __init__(self) -> None:
        super().__init__()
        torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))
        program = move_to_device_pass(torch.export.load(ORDERS["program"]), ORDERS["device"])
        self.forward_pass = program.module(check_guards=False).forward

    def deserialize(self, data: bytes) -> Any:
        """JSON by the fastest parser, or raw bytes."""
        if BINARY:
            return np.frombuffer(data, DTYPE).reshape(ROW)
        return np.asarray(orjson.loads(data)["inputs"][0]["data"], DTYPE).reshape(ROW)

    def serialize(self, data: Any) -> bytes:
        """The logits of one item."""
        return bytes(data) if BINARY else orjson.dumps({"outputs": [{"data": data}]}, option=16)

    def forward(self, data: list[Any]) -> list[Any]:
        """One batch."""
        with torch.inference_mode():
            output = self.forward_pass(torch.from_numpy(np.stack(data)).to(ORDERS["device"])).cpu().numpy()
        return [row.tobytes() for row in output] if BINARY else list(output)


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Model, num=1, max_batch_size=ORDERS["max_batch"], max_wait_time=max(1, int(ORDERS["max_wait_ms"]))
    )
    server.run()
