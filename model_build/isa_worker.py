"""Run under an emulated CPU: `python -m model_build.isa_worker GRAPH INPUTS.npz OUTPUT.npy LEVEL`."""

from __future__ import annotations

import sys


def main() -> None:
    """Answer the inputs in one batch and store the graph's output."""
    import numpy as np
    import onnxruntime as ort

    graph, inputs, output, load_optimisation = sys.argv[1:]
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = {"off": level.ORT_DISABLE_ALL, "extended": level.ORT_ENABLE_EXTENDED}[
        load_optimisation
    ]
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    stored = np.load(inputs)
    feed = {entry.name: stored[f"arr_{index}"] for index, entry in enumerate(session.get_inputs())}
    np.save(output, session.run(None, feed)[0])


if __name__ == "__main__":
    main()
