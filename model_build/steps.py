"""The steps of a build, in order."""

from __future__ import annotations

from model_build.candidates import EXPORT, OPTIMISE, QUANTISE
from model_build.distil import DISTIL
from model_build.evaluate import CALIBRATE, EVALUATE
from model_build.gate import GATE
from model_build.gpu_variant import GPU_VARIANT
from model_build.measure import MEASURE
from model_build.package import PACKAGE
from model_build.profile import PROFILE
from model_build.prune import PRUNE
from model_build.step import Step
from model_build.train import REFERENCE, STUDENT, TEACHER
from model_build.weights import WEIGHTS

TRAINING: tuple[Step, ...] = (TEACHER, STUDENT, REFERENCE, DISTIL, PRUNE)
COMPRESSION: tuple[Step, ...] = (
    GPU_VARIANT, EXPORT, QUANTISE, OPTIMISE, MEASURE, GATE, WEIGHTS, CALIBRATE, PROFILE, EVALUATE, PACKAGE,
)  # fmt: skip
STEPS: tuple[Step, ...] = (*TRAINING, *COMPRESSION)
