"""A Triton model repository from a network's ONNX graph: its ONNX back end, with TensorRT where a GPU is.

Optional: turnout's own server needs none of it. TensorRT engines are built by Triton on the GPU that
serves, so nothing here is bound to a device. `check` is the structural validation; no Triton runs here.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from handlers.errors import BuildError
from handlers.serving.manifest import TensorSpec
from model_build.build import Ready
from model_build.export import MIN_INPUTS, Exported, export
from model_build.recipe import example
from model_build.trained import Trained, load

TRITON_TYPES = {"BYTES": "TYPE_STRING"} | {
    name: f"TYPE_{name}" for name in ("BOOL", "UINT8", "INT8", "INT32", "INT64", "FP16", "FP32", "FP64")
}
ONNX_TYPES = {"tensor(bool)": "BOOL", "tensor(uint8)": "UINT8", "tensor(int8)": "INT8"} | {
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}


@dataclass(frozen=True, slots=True)
class TritonOptions:
    """`precision`: FP32, FP16 or BF16 for TensorRT, `max_queue_delay_us`: how long a batch waits for more."""

    max_batch: int = 32
    max_queue_delay_us: int = 2000
    precision: str = "FP16"
    workspace_bytes: int = 1 << 30
    instances: int = 1


def config(
    name: str, inputs: Sequence[TensorSpec], output: TensorSpec, options: TritonOptions | None = None
) -> str:
    """The text of `config.pbtxt`. Raises BuildError for a tensor that Triton cannot batch."""
    chosen = options or TritonOptions()
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise BuildError(
            f"triton: model name {name!r} is not allowed; allowed: letters, digits, '_', '.', '-'"
        )
    if chosen.precision not in ("FP32", "FP16", "BF16"):
        raise BuildError(f"triton: precision {chosen.precision!r} is not allowed; allowed: FP32, FP16, BF16")
    preferred = [size for size in (4, 8, 16, 32, 64, 128) if size < chosen.max_batch] + [chosen.max_batch]
    return f"""\
name: "{name}"
backend: "onnxruntime"
max_batch_size: {chosen.max_batch}
{_tensors("input", inputs)}
{_tensors("output", [output])}
instance_group [
  {{ count: {chosen.instances} kind: KIND_GPU }}
]
dynamic_batching {{
  preferred_batch_size: [ {", ".join(map(str, preferred))} ]
  max_queue_delay_microseconds: {chosen.max_queue_delay_us}
  priority_levels: 2
  default_priority_level: 1
  default_queue_policy {{ timeout_action: REJECT allow_timeout_override: true max_queue_size: 512 }}
}}
optimization {{
  execution_accelerators {{
    gpu_execution_accelerator [
      {{
        name: "tensorrt"
        parameters {{ key: "precision_mode" value: "{chosen.precision}" }}
        parameters {{ key: "max_workspace_size_bytes" value: "{chosen.workspace_bytes}" }}
        parameters {{ key: "trt_engine_cache_enable" value: "true" }}
      }}
    ]
  }}
}}
version_policy {{ latest {{ num_versions: 1 }} }}
"""


def write_repository(
    graph: Path,
    name: str,
    inputs: Sequence[TensorSpec],
    output: TensorSpec,
    folder: Path,
    options: TritonOptions | None = None,
) -> Path:
    """`folder/NAME/{config.pbtxt,1/model.onnx}`; returns the model's folder. Raises BuildError if
    it is not sound.
    """
    home = folder / name
    text = config(name, inputs, output, options)
    (home / "1").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(graph, home / "1/model.onnx")
    (home / "config.pbtxt").write_text(text)
    problems = check(home)
    if problems:
        shutil.rmtree(home)
        raise BuildError("triton: " + "; ".join(problems))
    return home


def repository_of(ready: Ready, folder: Path, options: TritonOptions | None = None) -> tuple[Path, Exported]:
    """The repository of a built model's teacher, exported to ONNX for it with the same proof of parity.

    Raises BuildError when the model has not been built with this code, or no exporter agrees.
    """
    recipe = ready.recipe
    item = next(item for item in ready.planned if item.step.name == "teacher")
    if not item.cached:
        raise BuildError(f"{recipe.name}: not built with this code yet; run: turnout build {recipe.name}")
    teacher = load(recipe, ready.splits, ready.cache.load("teacher", item.key, Trained))
    examples = example(ready.splits, 2 * MIN_INPUTS)
    width = len(recipe.labels) or int(ready.splits.train.targets.shape[1])
    specs = [TensorSpec(spec.name, spec.dtype, spec.shape) for spec in recipe.tensors]
    output = TensorSpec(recipe.output_name, "FP32", (-1, width))
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "model.onnx"
        exported = export(teacher, examples, recipe.tensors, recipe.output_name, graph)
        return write_repository(graph, recipe.name, specs, output, folder, options), exported


def check(home: Path) -> list[str]:
    """What would keep Triton from loading a model folder: syntax, and agreement with the graph it names."""
    import onnxruntime as ort

    text = (home / "config.pbtxt").read_text()
    problems = [
        f"config.pbtxt: unbalanced '{a}{b}'" for a, b in ("{}", "[]") if text.count(a) != text.count(b)
    ]
    if f'name: "{home.name}"' not in text:
        problems.append(f"config.pbtxt: the name is not the folder's, {home.name}")
    graph = home / "1/model.onnx"
    if not graph.is_file():
        return [*problems, "1/model.onnx: no such file"]
    session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    for kind, tensors in (("input", session.get_inputs()), ("output", session.get_outputs())):
        stated = dict(_stated(text, kind))
        for tensor in tensors:
            wanted = (TRITON_TYPES[ONNX_TYPES[tensor.type]], tuple(tensor.shape[1:]))
            if isinstance(tensor.shape[0], int):
                problems.append(f"{kind} {tensor.name}: the batch axis is fixed at {tensor.shape[0]}")
            if stated.pop(tensor.name, None) != wanted:
                problems.append(f"{kind} {tensor.name}: the graph has {wanted[0]} {list(wanted[1])}")
        problems += [f"{kind} {name}: not in the graph" for name in stated]
    return problems


def _tensors(kind: str, specs: Sequence[TensorSpec]) -> str:
    entries = []
    for spec in specs:
        if spec.dtype not in TRITON_TYPES or -1 in spec.shape[1:] or len(spec.shape) < 2:
            raise BuildError(f"triton: {kind} {spec.name} {spec.dtype} {list(spec.shape)} cannot be batched")
        dims = ", ".join(map(str, spec.shape[1:]))
        entries.append(f'  {{ name: "{spec.name}" data_type: {TRITON_TYPES[spec.dtype]} dims: [ {dims} ] }}')
    return f"{kind} [\n" + ",\n".join(entries) + "\n]"


def _stated(text: str, kind: str) -> list[tuple[str, tuple[str, tuple[int, ...]]]]:
    block = re.search(rf"^{kind} \[\n(.*?)\n\]", text, re.DOTALL | re.MULTILINE)
    entry = re.compile(r'name: "([^"]+)" data_type: (\w+) dims: \[ ([\d, ]+) \]')
    found = entry.findall(block.group(1)) if block else []
    return [(name, (kind_, tuple(int(size) for size in dims.split(",")))) for name, kind_, dims in found]
