"""The Dockerfile without an engine: its instructions, and its steps repeated in a fresh virtual
environment.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.model_build.gpu_server.conftest import Scaled

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "model_build/gpu_server/Dockerfile"


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def copies() -> list[tuple[list[str], str]]:
    return [(rest.split()[:-1], rest.split()[-1]) for name, rest in instructions() if name == "COPY"]


def test_it_runs_the_server_as_a_user_without_rights_on_the_port_of_the_contract() -> None:
    names = [name for name, _ in instructions()]
    assert names[0] == "ARG"
    assert names[-1] == "ENTRYPOINT"
    user = names.index("USER")
    assert dict(instructions())["USER"] not in ("root", "0")
    assert not any(name in ("RUN", "COPY", "ADD") for name in names[user:])
    assert "ADD" not in names
    assert dict(instructions())["EXPOSE"] == "8080"
    assert '"model_build.gpu_server"' in dict(instructions())["ENTRYPOINT"]


def test_the_base_image_is_named_with_a_tag_and_installs_are_pinned() -> None:
    base = next(rest for name, rest in instructions() if name == "ARG").split("=", 1)[1]
    assert re.search(r":[\w.-]*\d", base)
    assert "latest" not in base
    pins = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    needed = (ROOT / "model_build/gpu_server/requirements.txt").read_text().splitlines()
    assert {line.lower() for line in needed if line and not line.startswith("#")} <= pins


def test_the_linter_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")  # of the development requirements
    done = subprocess.run([linter, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_everything_that_is_copied_is_there() -> None:
    for sources, _ in copies():
        for source in sources:
            assert glob.glob(str(ROOT / source)), source


@pytest.mark.slow
def test_its_steps_in_a_fresh_environment_serve_a_release(
    tmp_path: Path, make_release: Callable[..., Path]
) -> None:
    app = tmp_path / "turnout"
    for sources, target in copies():
        for pattern in sources:
            for source in glob.glob(str(ROOT / pattern)):
                (app / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(source, app / target)
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin/python"
    install = next(rest for name, rest in instructions() if name == "RUN" and "pip install" in rest)
    assert install.split()[:3] == ["python", "-m", "pip"]
    command = [sys.executable, "-m", "pip", "--python", str(python), *install.split()[3:]]
    done = subprocess.run([*command, "-q"], cwd=app, capture_output=True, text=True, check=False)
    if done.returncode and "Could not find a version" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    # The base image's part: PyTorch, and what it needs, from the environment of this test.
    torch_home = Path(next(path for path in sys.path if path.endswith("site-packages")))
    next(environment.glob("lib/python*/site-packages")).joinpath("base.pth").write_text(f"{torch_home}\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "TURNOUT_GPU_PORT": str(port),
        "TURNOUT_GPU_HOST": "127.0.0.1",
        "TURNOUT_GPU_MODEL_DIR": str(make_release(Scaled(1.0))),
        "TURNOUT_GPU_DEVICE": "cpu",
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    entry = [str(python), "-m", "model_build.gpu_server", "serve"]
    server = subprocess.Popen(entry, cwd=app, env={**clean, **settings, "PYTHONPATH": str(app)})
    try:
        end = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
                    assert answer.status == 200
                    break
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < end
                assert server.poll() is None
                time.sleep(0.2)
    finally:
        server.terminate()
        assert server.wait(30) == 0
