"""The bench model behind LitServe: `python litserve_app.py PORT`, what to serve in BENCH_ORDERS.

Runs in the peers' environment: imports nothing of turnout, and evaluates its annotations,
which LitServe reads. JSON only: LitServe reads JSON or forms.
"""

import json
import os
import sys
from typing import Any

import litserve
import numpy as np
import torch
from fastapi import Request
from torch.export.passes import move_to_device_pass

ORDERS = json.loads(os.environ["BENCH_ORDERS"])


class Api(litserve.LitAPI):
    """One worker process; batches are formed by LitServe's loop."""

    def setup(self, _device: str) -> None:
        """Load in the worker."""
        torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))
        self.dtype = {"FP32": np.float32, "INT64": np.int64}[ORDERS["datatype"]]
        self.row = tuple(ORDERS["shape"])
        program = move_to_device_pass(torch.export.load(ORDERS["program"]), ORDERS["device"])
        self.forward_pass = program.module(check_guards=False).forward

    def decode_request(self, request: Request) -> Any:
        """JSON to one item."""
        return np.asarray(request["inputs"][0]["data"], self.dtype).reshape(self.row)

    def batch(self, inputs: list[Any]) -> Any:
        """Stack the items."""
        return torch.from_numpy(np.stack(inputs))

    def predict(self, x: Any) -> Any:
        """One batch."""
        with torch.inference_mode():
            return self.forward_pass(x.to(ORDERS["device"])).cpu().numpy()

    def unbatch(self, output: Any) -> Any:
        """Rows."""
        return list(output)

    def encode_response(self, output: Any) -> Any:
        """JSON."""
        return {"outputs": [{"data": output.tolist()}]}


if __name__ == "__main__":
    api = Api(max_batch_size=ORDERS["max_batch"], batch_timeout=ORDERS["max_wait_ms"] / 1000)
    server = litserve.LitServer(api, accelerator=ORDERS["device"], workers_per_device=1, track_requests=False)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False)
