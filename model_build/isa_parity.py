"""ISA parity: the very file that will be deployed, run on a CPU that this machine is not.

Lambda promises no CPU model. An int8 graph can be right with VNNI and wrong without, silently; so the graph
answers sample inputs under an emulated Haswell (AVX2, no VNNI) and must give the same labels and nearly the
same confidence.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from handlers.errors import BuildError
from model_build import arm64, isa_worker
from model_build.calibrate import confidence
from model_build.latency import save_inputs
from model_build.session import outputs_of
from model_build.sources import ROOT

Array = npt.NDArray[Any]

HASWELL, NEOVERSE = "x86_64 Haswell (AVX2, no VNNI)", "arm64 Neoverse-N1"
NO_ARM = "no emulated arm64 Python in .turnout/arm64; make arm64 fetches one"
CONFIDENCE_TOLERANCE = 0.05
VALUE_TOLERANCE = 0.02
# A label may change where two classes are this close to a tie.
TIE_MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class Isa:
    """One CPU: `status` is same, differs or skipped; `confidence_gap`: largest difference in confidence
    (regression: largest relative difference); `labels_changed`: clear labels that came out otherwise."""

    cpu: str
    status: str
    detail: str
    inputs: int = 0
    confidence_gap: float = 0.0
    labels_changed: int = 0


@dataclass(frozen=True, slots=True)
class IsaParity:
    """What each emulated CPU answered."""

    results: tuple[Isa, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """In words, for the gate."""
        return tuple(f"{r.cpu}: {r.detail}" for r in self.results if r.status == "differs")


def check(
    graph: Path, tensors: Sequence[Array], task: str, folder: Path, load_optimisation: str
) -> IsaParity:
    """Run `graph` on `tensors` here and on every emulated CPU there is.

    arm64 needs the emulator and the aarch64 Python that `make arm64` fetches.
    """
    wanted = outputs_of(graph, tensors, load_optimisation, batch=len(tensors[0]))

    def judged(cpu: str, command: Sequence[str], packages: Sequence[str], on_crash: str) -> Isa:
        try:
            got = _emulated(command, graph, tensors, folder, load_optimisation, packages)
        except BuildError as error:
            return Isa(cpu, on_crash, str(error))
        return compare(cpu, wanted, got, task)

    x86, arm = shutil.which("qemu-x86_64"), arm64.find()
    if platform.machine() != "x86_64":
        haswell = Isa(HASWELL, "skipped", f"this Python is for {platform.machine()}")
    elif x86 is None:
        haswell = Isa(HASWELL, "skipped", "no qemu-x86_64 here; install Debian's qemu-user")
    else:
        # The bare interpreter runs under the emulator, so it is told where packages are.
        python = str(Path(sys.executable).resolve())
        packages = [entry for entry in sys.path if entry]
        haswell = judged(HASWELL, [x86, "-cpu", "Haswell", python], packages, "differs")
    if arm is None:
        neoverse = Isa(NEOVERSE, "skipped", NO_ARM)
    else:
        # A crash here is the emulator's more often than the graph's, so it does not fail the gate.
        neoverse = judged(NEOVERSE, arm.command, [str(ROOT), str(arm.packages)], "skipped")
    return IsaParity((haswell, neoverse))


def compare(cpu: str, wanted: Array, got: Array, task: str) -> Isa:
    """Judge answers [N, K] of another CPU against this one's."""
    if task != "classification":
        gap = float(np.abs(got - wanted).max() / max(float(np.abs(wanted).max()), 1e-30))
        fine = gap <= VALUE_TOLERANCE
        text = (
            f"values within {gap:.2%}"
            if fine
            else f"values differ by {gap:.2%}, at most {VALUE_TOLERANCE:.0%}"
        )
        return Isa(cpu, "same" if fine else "differs", text, len(wanted), gap)
    sorted_ = np.sort(_softmax(wanted), axis=1)
    clear = sorted_[:, -1] - sorted_[:, -2] > TIE_MARGIN
    changed = int(np.sum(clear & (wanted.argmax(axis=1) != got.argmax(axis=1))))
    gap = float(np.abs(confidence(wanted, 1.0) - confidence(got, 1.0)).max())
    fine = changed == 0 and gap <= CONFIDENCE_TOLERANCE
    text = (
        f"same labels, confidence within {gap:.4f}"
        if fine
        else f"{changed} of {len(wanted)} labels change, confidence differs by {gap:.4f} "
        f"(at most {CONFIDENCE_TOLERANCE:g})"
    )
    return Isa(cpu, "same" if fine else "differs", text, len(wanted), gap, changed)


def _emulated(
    interpreter: Sequence[str],
    graph: Path,
    tensors: Sequence[Array],
    folder: Path,
    load_optimisation: str,
    packages: Sequence[str],
) -> Array:
    """The graph's answers from `interpreter`, which finds its modules in the folders `packages`."""
    inputs = save_inputs(tensors, folder / "isa-inputs.npz")
    output = folder / "isa-output.npy"
    environment = {"PYTHONPATH": ":".join(packages), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: S603  # an emulator found on PATH and our own module
        [*interpreter, "-m", isa_worker.__name__, str(graph.resolve()), str(inputs.resolve()),
         str(output.resolve()), load_optimisation],
        capture_output=True, text=True, cwd=ROOT, check=False, env=environment,
    )  # fmt: skip
    inputs.unlink()
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise BuildError(f"the emulated process failed: {last[0]}")
    answer: Array = np.load(output)
    output.unlink()
    return answer


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    result: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return result
