"""The Triton repository: what is written agrees with its graph, and disagreement is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from handlers.errors import BuildError
from handlers.serving.manifest import TensorSpec
from model_build.triton import TritonOptions, check, config, write_repository

INPUT = TensorSpec("x", "FP32", (-1, 3))
OUTPUT = TensorSpec("logits", "FP32", (-1, 2))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Gemm", ["x", "w"], ["logits"])
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3, 2], [0.5] * 6)
    made = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [weights],
    )
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_a_repository_is_laid_out_as_triton_wants_it(graph: Path, tmp_path: Path) -> None:
    home = write_repository(graph, "digits", [INPUT], OUTPUT, tmp_path, TritonOptions(max_batch=16))
    assert (home / "1/model.onnx").is_file()
    text = (home / "config.pbtxt").read_text()
    assert "max_batch_size: 16" in text
    assert "preferred_batch_size: [ 4, 8, 16 ]" in text
    assert 'key: "precision_mode" value: "FP16"' in text
    assert check(home) == []


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        ([TensorSpec("y", "FP32", (-1, 3))], OUTPUT),
        ([TensorSpec("x", "INT64", (-1, 3))], OUTPUT),
        ([TensorSpec("x", "FP32", (-1, 4))], OUTPUT),
        ([INPUT], TensorSpec("logits", "FP32", (-1, 5))),
        ([INPUT, TensorSpec("z", "FP32", (-1, 1))], OUTPUT),
    ],
)
def test_a_config_that_disagrees_with_the_graph_is_not_written(
    graph: Path, tmp_path: Path, inputs: list[TensorSpec], output: TensorSpec
) -> None:
    with pytest.raises(BuildError, match="triton"):
        write_repository(graph, "digits", inputs, output, tmp_path)
    assert not (tmp_path / "digits").exists()


def test_names_precisions_and_free_dimensions_are_checked() -> None:
    with pytest.raises(BuildError, match="model name"):
        config("a b", [INPUT], OUTPUT)
    with pytest.raises(BuildError, match="precision"):
        config("a", [INPUT], OUTPUT, TritonOptions(precision="INT4"))
    with pytest.raises(BuildError, match="cannot be batched"):
        config("a", [TensorSpec("x", "FP32", (-1, -1))], OUTPUT)
