"""The steps of a build, in order."""

from __future__ import annotations

from model_build.distil import DISTIL
from model_build.prune import PRUNE
from model_build.step import Step
from model_build.train import REFERENCE, STUDENT, TEACHER

TRAINING: tuple[Step, ...] = (TEACHER, STUDENT, REFERENCE, DISTIL, PRUNE)
STEPS: tuple[Step, ...] = TRAINING
