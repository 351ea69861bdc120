"""Runs inside the peers' own virtual environment: one peer quantises one ONNX graph with its defaults.

`python peer_quantise.py {nncf|olive-static|olive-dynamic|ort-dynamic} IN.onnx CALIBRATION.npz OUT.onnx`.
CALIBRATION holds one array per graph input, in the graph's order. Imports nothing of turnout.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROWS = 256


def rows_of(graph: str, calibration: str) -> Iterator[dict[str, Any]]:
    """The calibration examples one at a time, by input name."""
    import numpy as np
    import onnx

    stored = np.load(calibration)
    names = [entry.name for entry in onnx.load(graph).graph.input]
    arrays = [stored[f"arr_{index}"] for index in range(len(names))]
    for row in range(min(ROWS, len(arrays[0]))):
        yield {name: array[row : row + 1] for name, array in zip(names, arrays, strict=True)}


def nncf_static(graph: str, calibration: str, output: str) -> None:
    """NNCF's post-training quantisation as its guide writes it."""
    import nncf
    import onnx

    data = nncf.Dataset(list(rows_of(graph, calibration)))
    onnx.save(nncf.quantize(onnx.load(graph), data, subset_size=ROWS), output)


def olive(graph: str, calibration: str, output: str, name: str) -> None:
    """One Olive pass on CPU, run as a workflow."""
    from olive.workflows import run

    script = (
        "from olive.data.registry import Registry\n"
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from peer_quantise import rows_of\n"
        "@Registry.register_dataset()\n"
        "def examples(**_):\n"
        f"    rows = rows_of({graph!r}, {calibration!r})\n"
        "    return [({k: v[0] for k, v in row.items()}, 0) for row in rows]\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        user_script = Path(folder) / "examples.py"
        user_script.write_text(script)
        step: dict[str, Any] = {"type": name}
        if name == "OnnxStaticQuantization":
            step["data_config"] = "examples"
        run(
            {
                "input_model": {"type": "OnnxModel", "model_path": graph},
                "data_configs": [
                    {
                        "name": "examples",
                        "user_script": str(user_script),
                        "load_dataset_config": {"type": "examples"},
                        "dataloader_config": {"batch_size": 1},
                    }
                ],
                "passes": {"quantise": step},
                "cache_dir": str(Path(folder) / "cache"),
                "output_dir": str(Path(folder) / "out"),
            }
        )
        shutil.copyfile(next((Path(folder) / "out").rglob("*.onnx")), output)


def ort_dynamic(graph: str, output: str) -> None:
    """`quantize_dynamic` with nothing but its defaults: what most notebooks do."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(graph, output)


def main() -> None:
    """Run the peer named on the command line."""
    peer, graph, calibration, output = sys.argv[1:]
    if peer == "nncf":
        nncf_static(graph, calibration, output)
    elif peer == "olive-static":
        olive(graph, calibration, output, "OnnxStaticQuantization")
    elif peer == "olive-dynamic":
        olive(graph, calibration, output, "OnnxDynamicQuantization")
    elif peer == "ort-dynamic":
        ort_dynamic(graph, output)
    else:
        sys.exit(f"unknown peer {peer}")


if __name__ == "__main__":
    main()
