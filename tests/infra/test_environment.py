"""What the functions are told and given, from turnout.toml and the releases at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from handlers.errors import InvalidConfig
from infra.config import load
from infra.environment import memory_mb, memory_notice

STATED = load().models["digits"]
AUTO = STATED.model_copy(update={"memory_mb": "auto"})


def measured(folder: Path, size: Any) -> Path:
    """A store whose current release of digits measured `size` as the best."""
    release = folder / "digits" / "0123456789abcdef"
    release.mkdir(parents=True)
    (folder / "digits" / "current").write_text(f"{release.name}\n")
    (release / "manifest.json").write_text(json.dumps({"profile": {"cpu": {"memory_mb": size}}}))
    return folder


def test_auto_memory_is_what_the_current_release_measured(tmp_path: Path):
    store = measured(tmp_path, 512)
    assert (memory_mb("digits", AUTO, store), memory_notice("digits", AUTO, store)) == (512, None)
    # And what turnout.toml states is not asked of any release
    assert (memory_mb("digits", STATED, store), memory_notice("digits", STATED, tmp_path / "none")) == (
        1769,
        None,
    )


def test_auto_memory_without_a_release_is_one_vcpus_and_says_so(tmp_path: Path):
    assert memory_mb("digits", AUTO, tmp_path) == 1769
    assert "1769 MB (one vCPU) until `turnout build digits`" in (
        memory_notice("digits", AUTO, tmp_path) or ""
    )


@pytest.mark.parametrize("size", [64, 20480, "512"])
def test_auto_memory_that_lambda_does_not_have_is_refused(tmp_path: Path, size: Any):
    with pytest.raises(InvalidConfig, match="whole MB from 128 to 10240"):
        memory_mb("digits", AUTO, measured(tmp_path, size))
