"""`turnout build` as a user runs it: in a process, over a recipe file, into a folder of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
GUIDE = ROOT / "docs" / "bring-your-own-model.md"


class Shop:
    """A folder with one recipe file, its own cache and its own releases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
        self.recipe = folder / "tumour.py"
        self.recipe.write_text("\n".join(blocks))

    def change(self, old: str, new: str) -> None:
        text = self.recipe.read_text()
        assert old in text
        self.recipe.write_text(text.replace(old, new))

    def start(self, *options: str) -> "subprocess.Popen[str]":
        environment = os.environ | {
            "TURNOUT_CACHE_DIR": str(self.folder / "cache"),
            "TURNOUT_RELEASES_DIR": str(self.folder / "releases"),
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.Popen(
            [sys.executable, "-m", "scripts.cli", "build", str(self.recipe), *options],
            cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def build(self, *options: str) -> tuple[int, str, str]:
        process = self.start(*options)
        out, errors = process.communicate(timeout=800)
        return process.returncode, out, errors

    def releases(self) -> list[Path]:
        return list((self.folder / "releases").rglob("*"))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_GivenTheGuidesRecipe_WhenBuilt_ThenItBecomesARelease(shop: Shop) -> None:
    # Given the file that the guide writes, and a plan that says all would run
    code, plan, _ = shop.build("--dry-run", "--json")
    assert code == 0
    assert not any(step["cached"] for step in json.loads(plan)["steps"])
    # When it is built
    code, out, errors = shop.build("--json")
    # Then one JSON document says what came of it, and the release is there
    assert code == 0, errors
    told: dict[str, Any] = json.loads(out)
    assert told["model"] == "tumour"
    assert {"gpu", "cpu"} <= set(told["variants"])
    for variant in ("gpu", "cpu"):
        assert told["variants"][variant]["accuracy"] > 0.85
        assert told["variants"][variant]["size_bytes"] > 0
    assert told["variants"]["cpu"]["size_bytes"] < told["variants"]["gpu"]["size_bytes"]
    assert told["variants"]["cpu"]["latency_ms"]["p50"] > 0
    assert 0 <= told["escalation_share"] <= 1
    assert 0 < told["threshold"] <= 1
    assert told["cascade_accuracy"] > 0.85
    assert told["guarantee"] == {"epsilon": 0.05, "delta": 0.05}
    home = shop.folder / "releases" / "tumour"
    assert (home / "current").read_text().strip() == told["release"]
    assert (home / told["release"] / "report.html").is_file()
    # And a second build takes everything from the cache and names the same release
    code, plan, _ = shop.build("--dry-run", "--json")
    assert all(step["cached"] for step in json.loads(plan)["steps"])
    code, again, _ = shop.build("--json")
    assert json.loads(again)["release"] == told["release"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_GivenABuildKilledInTraining_WhenBuiltAgain_ThenItGoesOnAndNothingHalfIsLeft(shop: Shop) -> None:
    # Given a build that is killed without warning in the teacher's training
    shop.change("teacher_training=Training(epochs=30", "teacher_training=Training(epochs=4000")
    process = shop.start()
    checkpoints: list[Path] = []
    deadline = time.monotonic() + 500
    while not checkpoints and time.monotonic() < deadline:
        checkpoints = list((shop.folder / "cache").rglob("teacher.checkpoint"))
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert checkpoints
    # Then there is no release, not even a half one, and the checkpoint is there for the next build
    assert shop.releases() == []
    code, plan, _ = shop.build("--dry-run")
    assert code == 0
    assert "would run" in plan
    assert list((shop.folder / "cache").rglob("teacher.checkpoint")) == checkpoints


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    teacher=teacher,\n", "", "the recipe is missing 1 required keyword-only argument: 'teacher'"),
        (
            "known.target.astype(np.int64)",
            "known.target.astype(np.int64) + 1",
            "data() failed: IndexError: tuple index out of range (tumour.py, line",
        ),
        ("targets[chosen])", "targets[chosen] + 1)", "is out of range; the recipe has 2 labels"),
        ("Guarantee(epsilon=0.05)", "Guarantee(epsilon=0.001)", "needs at least"),
        ("nn.Linear(30, width)", "nn.Linear(31, width)", "the teacher cannot take measurements [2, 30]"),
        ("RECIPE = ", "RECIPES = ", "a recipe file must define RECIPE = Recipe(…), found NoneType"),
        (
            "import numpy as np",
            "import numpy as np\nimport nowhere",
            "cannot be run: No module named 'nowhere'",
        ),
    ],
)
def test_GivenARecipeThatIsWrong_WhenBuilt_ThenTheErrorSaysWhatAndNothingIsMade(
    shop: Shop, old: str, new: str, said: str
) -> None:
    shop.change(old, new)
    code, out, errors = shop.build("--json")
    assert code == 2
    assert out == ""
    assert said in errors
    assert errors.startswith("turnout: error: ")
    assert "Traceback" not in errors
    assert shop.releases() == []


@pytest.mark.slow
def test_GivenAModelThatDoesNotExist_WhenBuilt_ThenTheRecipesAreNamed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.cli", "build", "nothing"],
        cwd=ROOT, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no recipe 'nothing'; there are digits, mnist, speech, sst2" in done.stderr
