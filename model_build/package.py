"""Package: the last step, which turns the results of all others into a release folder with its report."""

from __future__ import annotations

from model_build.calibrate import Calibration
from model_build.candidate import ExportResult, MeasureResult
from model_build.evaluate import Evaluated
from model_build.gate import GateResult
from model_build.gpu_variant import GpuVariant
from model_build.profile import Profiled
from model_build.release import Parts, Released, assemble
from model_build.report import render
from model_build.step import Step, Work
from model_build.story import Story
from model_build.trained import DistilResult, PruneResult, Trained
from model_build.weights import Placed


def package(
    work: Work,
    teacher: Trained,
    student: DistilResult,
    reference: Trained | None,
    pruned: PruneResult,
    exported: ExportResult,
    measured: MeasureResult,
    gpu: GpuVariant,
    gated: GateResult,
    placed: Placed,
    calibration: Calibration,
    profiled: Profiled,
    evaluated: Evaluated,
) -> Released:
    """The release folder, under the step's own folder until it is published."""
    parts = Parts(exported, gated, placed, gpu, calibration, profiled, evaluated)
    story = Story(work.recipe, teacher, student, reference, pruned, measured, parts)
    return assemble(work.recipe, work.splits, parts, render(story), work.folder / "release")


PACKAGE = Step(
    "release",
    package,
    needs=("teacher", "distil", "reference", "prune", "export", "measure", "gpu-variant", "gate", "weights",
           "calibrate", "profile", "evaluate"),
)  # fmt: skip
