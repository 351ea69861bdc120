"""An ahead-of-time package of an exported program (AOTInductor), made at load for the very device it will
run on.

The package is compiled code: it is built here from the verified program, never taken from a release.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram


def compile_program(exported: ExportedProgram, device: torch.device, precision: str) -> Any:
    """The program as compiled code on `device`. Needs a C++ compiler (and nvcc-free Triton on CUDA).

    Raises ValueError for bf16 and fp16: autocast cannot be put around compiled code.
    """
    import torch

    if precision in ("bf16", "fp16"):
        raise ValueError(f"TURNOUT_GPU_ENGINE=aot runs the program as exported; use compile for {precision}")
    from torch.export.passes import move_to_device_pass

    moved = move_to_device_pass(exported, str(device))
    with tempfile.TemporaryDirectory(prefix="turnout-aot-") as folder, torch.inference_mode():
        package = torch._inductor.aoti_compile_and_package(
            moved, package_path=str(Path(folder) / "model.pt2")
        )
        return torch._inductor.aoti_load_package(package)
