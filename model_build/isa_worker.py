"""Run under an emulated CPU: `python -m model_build.isa_worker GRAPH INPUTS.npz OUTPUT.npy LEVEL`."""

from __future__ import annotations

import sys


def main() -> None:
    """Answer the inputs in one batch and store the graph's output."""
    import numpy as np
    import onnxruntime as ort

    from handlers.serving.session import session_options

    graph, inputs, output, load_optimisation = sys.argv[1:]
    session = ort.InferenceSession(
        graph, session_options(1, load_optimisation), providers=["CPUExecutionProvider"]
    )
    stored = np.load(inputs)
    feed = {entry.name: stored[f"arr_{index}"] for index, entry in enumerate(session.get_inputs())}
    np.save(output, session.run(None, feed)[0])


if __name__ == "__main__":
    main()
