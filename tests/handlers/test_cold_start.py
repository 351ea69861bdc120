"""The import budget: what init costs over the bare cost of ONNX Runtime, and what it must never import."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

import handlers

BUDGET = 2.4
"""Highest ratio of CPU time; measured 1.7 to 1.9 on a busy machine. A guard, not a benchmark."""

FORBIDDEN = ("boto3", "botocore.session", "asyncio", "http.client", "aws_xray_sdk", "pydantic")
BARE = """
import time
import numpy, onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession({model!r}, options, ["CPUExecutionProvider"])
session.run(None, {{"image": numpy.zeros((1, 1, 2, 2), numpy.float32)}})
print(time.process_time())
"""
INIT = """
import time
import handlers.predict
spent = time.process_time()
import sys
print(spent, *sys.modules)
"""


@pytest.fixture
def run(
    cloud: Any, environ: dict[str, str], tiny_graph: Callable[[float], bytes], tmp_path: Path
) -> Callable[[str], list[str]]:
    """Run a script as the function's sandbox would: compiled sources, no site, nothing of the project's."""
    cloud.publish(tiny_graph(1.0))
    package = tmp_path / "package"
    shutil.copytree(
        Path(handlers.__file__).parent, package / "handlers", ignore=shutil.ignore_patterns("__pycache__")
    )
    compileall.compile_dir(package, quiet=1)
    libraries = Path(numpy.__file__).parents[1]
    made = {
        **os.environ,
        **environ,
        "PYTHONPATH": f"{package}{os.pathsep}{libraries}",
        "OPENBLAS_NUM_THREADS": "1",
    }

    def script(code: str) -> list[str]:
        shutil.rmtree(tmp_path / "turnout", ignore_errors=True)
        done = subprocess.run(
            [sys.executable, "-S", "-c", code], env=made, capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[-1].split()

    return script


@pytest.mark.slow
def test_GIVEN_a_release_WHEN_the_function_starts_THEN_it_costs_little_over_the_bare_session(
    run: Callable[[str], list[str]], tiny_graph: Callable[[float], bytes], tmp_path: Path
) -> None:
    (tmp_path / "bare.onnx").write_bytes(tiny_graph(1.0))
    bare, init = [], []
    modules: list[str] = []
    for _ in range(4):
        bare.append(float(run(BARE.format(model=str(tmp_path / "bare.onnx")))[0]))
        spent, *modules = run(INIT)
        init.append(float(spent))

    assert min(init) / min(bare) <= BUDGET
    assert not [name for name in FORBIDDEN if name in modules]
    assert "onnxruntime" in modules


def test_GIVEN_a_front_WHEN_it_starts_THEN_it_does_not_even_import_onnx_runtime(
    run: Callable[[str], list[str]],
) -> None:
    code = "import os; os.environ.update(TURNOUT_ROLE='front', TURNOUT_MODEL_FUNCTION='f')\n" + INIT

    assert "onnxruntime" not in run(code)


def test_GIVEN_the_function_WHEN_invoked_through_its_entry_THEN_it_answers(
    run: Callable[[str], list[str]],
) -> None:
    event = {"rawPath": "/v2/health/ready", "requestContext": {"http": {"method": "GET"}}}
    code = f"import handlers.predict as p; print(p.handler({event!r}, None)['statusCode'])"

    assert run(code) == ["200"]
