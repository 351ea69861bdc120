"""Optimise: fuse the graph offline, to the level that every CPU can run.

`ORT_ENABLE_EXTENDED` is portable. `ORT_ENABLE_ALL` writes layouts of this machine's vector width into the
graph (`com.microsoft.nchwc`): on a CPU with another width such a file gives wrong answers without a message,
and does not load on arm64 (onnxruntime #26174). A graph with such a node is refused, whoever made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from handlers.errors import BuildError
from model_build.session import open_session

ISA_DOMAIN = "com.microsoft.nchwc"


@dataclass(frozen=True, slots=True)
class Optimised:
    """An EXTENDED-optimised graph. `nodes_before`, `nodes_after`: how many nodes fusion left."""

    path: Path
    size_bytes: int
    nodes_before: int
    nodes_after: int


def optimise(graph: Path, path: Path) -> Optimised:
    """Write `graph` optimised to `path`. Raises BuildError when that is bound to one instruction set."""
    open_session(graph, "extended", save_to=path)
    before, after = onnx.load(str(graph)), onnx.load(str(path))
    try:
        refuse_isa_specific(after, path.name)
    except BuildError:
        path.unlink()
        raise
    _keep_used_domains(after)
    after.producer_name, after.producer_version, after.doc_string = "turnout", "", ""
    onnx.save(after, str(path))
    return Optimised(path, path.stat().st_size, len(before.graph.node), len(after.graph.node))


def refuse_isa_specific(model: onnx.ModelProto, name: str) -> None:
    """Raises BuildError when `model` holds a node that only one kind of CPU can run."""
    found = sorted({node.op_type for node in _all_nodes(model.graph) if node.domain == ISA_DOMAIN})
    if found:
        kinds = ", ".join(f"{ISA_DOMAIN}:{kind}" for kind in found)
        raise BuildError(
            f"{name}: holds {kinds}, which is bound to the CPU it was made on; "
            "save with ORT_ENABLE_EXTENDED instead of ORT_ENABLE_ALL"
        )


def _all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    nodes = list(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                nodes.extend(_all_nodes(inner))
    return nodes


def _keep_used_domains(model: onnx.ModelProto) -> None:
    """Drop opset imports that no node uses: ORT writes all it knows, `nchwc` among them."""
    used = {node.domain or "" for node in _all_nodes(model.graph)} | {""}
    imports = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
