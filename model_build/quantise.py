"""Quantise: int8 forms of a float32 ONNX graph, each operator by the method that suits it.

Convolutions are quantised statically (QDQ, U8 activations, S8 weights per channel): dynamic int8 convolution
is several times slower than float32. MatMul, Gemm and LSTM are quantised dynamically: their activations'
range differs from request to request. Weights use 7 bits (`reduce_range`): without VNNI, 8-bit products of
x86's VPMADDUBSW saturate 16-bit sums and the answers are silently wrong; it costs no speed.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from handlers.errors import BuildError

Array = npt.NDArray[Any]

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
PRODUCTS = frozenset({"MatMul", "Gemm"})
RECURRENT = frozenset({"LSTM"})
# What lies between two convolutions and has an int8 form, so that values stay int8 on the way.
CARRIERS = frozenset({"Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Concat",
                      "Reshape", "Flatten", "Transpose"})  # fmt: skip
CALIBRATION_ROWS = 256


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way to quantise: operator types done statically and dynamically; `spared`: node names left float.

    `method`: how static ranges are set, `minmax` or `percentile` (99.99 %).
    """

    name: str
    words: str
    static: frozenset[str] = frozenset()
    dynamic: frozenset[str] = frozenset()
    spared: tuple[str, ...] = ()
    method: str = "minmax"


@dataclass(frozen=True, slots=True)
class Quantised:
    """A quantised graph. `operators`: how many nodes of which type are quantised, e.g. {"Conv": 2}."""

    scheme: Scheme
    path: Path
    size_bytes: int
    operators: dict[str, int]


def schemes(graph: Path) -> tuple[Scheme, ...]:
    """The candidates worth trying for this graph, by the operators it holds, the boldest first."""
    nodes = weighted_layers(graph)
    kinds = {kind for kind, _name in nodes}
    convolutions = [name for kind, name in nodes if kind in CONVOLUTIONS]
    # The dynamic quantiser turns a Gemm into a MatMul first, so either means both.
    products = PRODUCTS if kinds & PRODUCTS else frozenset()
    recurrent, tables = frozenset(kinds & RECURRENT), frozenset(kinds & {"Gather"})
    linear = products | recurrent
    head = nodes[-1][1] if nodes else ""
    every, carried = CONVOLUTIONS | PRODUCTS | CARRIERS, CONVOLUTIONS | CARRIERS
    found: list[Scheme] = []
    if convolutions and not recurrent:
        found.append(Scheme("int8-static", "all layers static", every))
        words = "all layers static, ranges at the 99.99th percentile"
        found.append(Scheme("int8-static-percentile", words, every, method="percentile"))
    if convolutions and linear:
        words = "convolutions static, products dynamic"
        found.append(Scheme("int8-mixed", words, carried, linear | tables))
    if len(convolutions) > 1 and not recurrent:
        words = "all but the first convolution and the head static"
        found.append(Scheme("int8-static-inner", words, every, spared=(convolutions[0], head)))
    if linear:
        found.append(Scheme("int8-dynamic", "products and tables dynamic", dynamic=linear | tables))
        if len(nodes) > len(convolutions) + 1:
            words = "all products but the head dynamic"
            found.append(Scheme("int8-dynamic-inner", words, dynamic=linear | tables, spared=(head,)))
    if linear and tables:
        found.append(Scheme("int8-products", "products dynamic, tables float", dynamic=linear))
    if recurrent and products:
        found.append(Scheme("int8-recurrent", "just the recurrent layers, dynamic", dynamic=recurrent))
    return tuple(found)


def weighted_layers(graph: Path) -> list[tuple[str, str]]:
    """(operator, node name) of every layer with weights of its own, in the graph's order."""
    return _weighted_nodes(_folded(graph))


def _folded(graph: Path) -> onnx.ModelProto:
    """The graph as the quantiser will see it: an exporter may leave a layer's weights in pieces."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
        return onnx.load(str(prepared))


def quantise(
    graph: Path, scheme: Scheme, calibration: Sequence[Array], path: Path, reduce_range: bool = True
) -> Quantised:
    """Write `graph` quantised by `scheme` to `path`.

    `calibration`: one array per graph input, float32 or int64 [N, …], N ≥ 1; the first 256 rows are used.
    Raises BuildError when there is no calibration data for a static scheme, or when nothing got quantised.
    """
    if scheme.static and len(calibration[0]) == 0:
        raise BuildError("quantise: static ranges need calibration examples, the calibration split is empty")
    prepared = path.with_suffix(".prepared.onnx")
    dynamic_input = prepared
    half = path.with_suffix(".half.onnx")
    try:
        with _quiet():
            quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
            if scheme.static:
                target = half if scheme.dynamic else path
                _static(prepared, target, scheme, calibration, reduce_range)
                dynamic_input = half
            if scheme.dynamic:
                quantize_dynamic(
                    str(dynamic_input),
                    str(path),
                    op_types_to_quantize=sorted(scheme.dynamic),
                    # A Gemm has become a MatMul of this name by then.
                    nodes_to_exclude=[*scheme.spared, *(f"{name}_MatMul" for name in scheme.spared)],
                    weight_type=QuantType.QInt8,
                    per_channel=True,
                    reduce_range=reduce_range,
                )
        operators = quantised_operators(onnx.load(str(path)))
    finally:
        prepared.unlink(missing_ok=True)
        half.unlink(missing_ok=True)
    if not operators:
        raise BuildError(f"quantise: scheme {scheme.name} quantised no operator of {graph.name}")
    return Quantised(scheme, path, path.stat().st_size, operators)


def quantised_operators(model: onnx.ModelProto) -> dict[str, int]:
    """Nodes that compute in int8, by the float operator they replace."""
    integer = {"MatMulInteger": "MatMul", "DynamicQuantizeMatMul": "MatMul", "DynamicQuantizeLSTM": "LSTM",
               "ConvInteger": "Conv", "QLinearConv": "Conv", "QLinearMatMul": "MatMul"}  # fmt: skip
    dequantised = {
        output for node in model.graph.node if node.op_type == "DequantizeLinear" for output in node.output
    }
    counts: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type in integer:
            counts[integer[node.op_type]] += 1
        elif node.op_type in CONVOLUTIONS | PRODUCTS and dequantised.issuperset(node.input[:2]):
            counts[node.op_type] += 1
    return dict(counts)


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # the base class is untyped
    """Calibration examples in batches of sixteen."""

    def __init__(self, names: Sequence[str], tensors: Sequence[Array]) -> None:
        rows = min(len(tensors[0]), CALIBRATION_ROWS)
        size = min(rows, 16)
        # Whole batches only: the percentile method wants arrays of one shape.
        starts = range(0, rows - size + 1, size)
        self._batches = iter(
            [
                {name: np.ascontiguousarray(t[s : s + size]) for name, t in zip(names, tensors, strict=True)}
                for s in starts
            ]
        )

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)


def _static(
    prepared: Path, path: Path, scheme: Scheme, calibration: Sequence[Array], reduce_range: bool
) -> None:
    names = [entry.name for entry in onnx.load(str(prepared)).graph.input]
    method = CalibrationMethod.MinMax if scheme.method == "minmax" else CalibrationMethod.Percentile
    quantize_static(
        str(prepared),
        str(path),
        _Rows(names, calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=sorted(scheme.static),
        nodes_to_exclude=list(scheme.spared),
        per_channel=True,
        reduce_range=reduce_range,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
        extra_options={"CalibPercentile": 99.99} if scheme.method == "percentile" else {},
    )


def _weighted_nodes(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """(type, name) of the nodes with weights of their own, in the graph's order."""
    weights = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) >= 2
    }
    kinds = CONVOLUTIONS | PRODUCTS | RECURRENT | {"Gather"}
    return [
        (node.op_type, node.name)
        for node in model.graph.node
        if node.op_type in kinds and weights.intersection(node.input)
    ]


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser logs advice about steps that are taken here anyway."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
