"""Run by the target's interpreter on nothing but the package and boto3: all imports, one graph."""

import importlib
import pkgutil
import sys

import numpy
import onnxruntime

import handlers

# ModelProto: IR 10, opset 20, one Add of x with itself, x and y float32 of shape [1].
ONE_ADD = (
    b'\x08\n:5\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x01g'
    b"Z\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01"
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x14"
)

for module in pkgutil.walk_packages(handlers.__path__, "handlers."):
    if module.name != "handlers.predict":  # it starts serving on import; all that it imports is imported here
        importlib.import_module(module.name)
session = onnxruntime.InferenceSession(ONE_ADD, providers=["CPUExecutionProvider"])
(y,) = session.run(None, {"x": numpy.array([2.0], dtype=numpy.float32)})
sys.exit(0 if y.tolist() == [4.0] else "onnxruntime in the package computes a wrong sum")
