import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from handlers.errors import BuildError
from model_build import data, pipeline
from model_build.cache import Cache, locked
from model_build.prune import PRUNE
from model_build.recipe import Gates, Guarantee, Recipe, Training
from model_build.step import Step, Work
from model_build.steps import STEPS, TRAINING


@dataclass(frozen=True)
class Made:
    file: Path
    count: int
    note: str | None = None


def first(work: Work) -> Made:
    file = work.folder / "first.txt"
    file.write_text(f"{work.recipe.seed}")
    work.progress(1.0, "written")
    return Made(file, 1)


def second(work: Work, made: Made) -> tuple[Made, Made | None]:
    file = work.folder / "second.txt"
    file.write_text(made.file.read_text() + "!")
    return Made(file, made.count + 1, "two"), None


def full(work: Work, made: Made) -> Made:
    with Path("/dev/full").open("w") as out:
        out.write("x" * 100)
    return made


def broken(work: Work, made: Made) -> Made:
    (work.folder / "half.txt").write_text("half")
    raise BuildError("it does not go on")


def misshapen(work: Work, made: Made) -> Made:
    torch.zeros(2, 3) @ torch.zeros(2, 3)
    return made


STEP_FIRST = Step("first", first, reads=("seed",))
STEP_SECOND = Step("second", second, needs=("first",), reads=("gates",))


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def started(self, step: str) -> None:
        self.lines.append(f"{step} starts")

    def progressed(self, step: str, share: float, text: str) -> None:
        self.lines.append(f"{step} {share:.0%} {text}")

    def finished(self, step: str, seconds: float, cached: bool) -> None:
        self.lines.append(f"{step} {'cached' if cached else 'done'}")


def planned(recipe: Recipe, cache: Cache, *steps: Step) -> tuple[pipeline.Planned, ...]:
    return pipeline.plan(recipe, data.load(recipe), steps or (STEP_FIRST, STEP_SECOND), cache)


def run(recipe: Recipe, cache: Cache, *steps: Step, log: Log | None = None) -> dict[str, object]:
    return dict(pipeline.run(recipe, data.load(recipe), planned(recipe, cache, *steps), cache, log))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache" / "tiny")


def test_GivenAnEmptyCache_WhenRun_ThenEachStepRunsAndIsKept(tiny: Recipe, cache: Cache) -> None:
    log = Log()
    results = run(tiny, cache, log=log)
    assert log.lines == ["first starts", "first 100% written", "first done", "second starts", "second done"]
    made, nothing = results["second"]  # type: ignore[misc]  # a tuple, by its step's annotation
    assert (made.file.read_text(), made.count, made.note, nothing) == ("0!", 2, "two", None)


def test_GivenAFullCache_WhenRun_ThenNothingRunsAndTheResultsAreEqual(tiny: Recipe, cache: Cache) -> None:
    before, log = run(tiny, cache), Log()
    assert run(tiny, cache, log=log) == before
    assert log.lines == ["first cached", "second cached"]


def test_GivenACacheThatWasMoved_WhenRun_ThenItsPathsAreTheNewOnes(tiny: Recipe, cache: Cache) -> None:
    run(tiny, cache)
    moved = Cache(cache.folder.with_name("moved"))
    cache.folder.rename(moved.folder)
    made = run(tiny, moved)["first"]
    assert isinstance(made, Made)
    assert made.file.is_relative_to(moved.folder)
    assert made.file.read_text() == "0"


@pytest.mark.parametrize(
    ("change", "cached"),
    [
        ({}, [True, True]),
        ({"gates": Gates(max_drop=0.5)}, [True, False]),
        ({"seed": 3}, [False, False]),
        ({"guarantee": Guarantee(epsilon=0.2)}, [True, True]),
    ],
)
def test_GivenAChangedField_WhenPlanned_ThenJustWhatReadsItReruns(
    tiny: Recipe, cache: Cache, change: dict[str, object], cached: list[bool]
) -> None:
    run(tiny, cache)
    changed = replace(tiny, **change)  # type: ignore[arg-type]  # one field at a time
    assert [item.cached for item in planned(changed, cache)] == cached


def test_GivenChangedData_WhenPlanned_ThenEverythingReruns(tiny: Recipe, cache: Cache) -> None:
    run(tiny, cache)
    splits = tiny.data()
    splits.train.tensors[0][0, 0] += 1
    changed = replace(tiny, data=lambda: splits)
    assert [item.cached for item in planned(changed, cache)] == [False, False]


def test_GivenOtherTrainingOfTheStudent_WhenPlanned_ThenTheTeacherStays(tiny: Recipe, cache: Cache) -> None:
    def keys(recipe: Recipe) -> dict[str, str]:
        return {item.step.name: item.key for item in planned(recipe, cache, *TRAINING)}

    before, after = keys(tiny), keys(replace(tiny, student_training=Training(epochs=9)))
    assert before["teacher"] == after["teacher"]
    assert before["student"] != after["student"]
    assert before["prune"] != after["prune"]


def test_GivenAFullDisk_WhenRun_ThenTheErrorSaysSoAndFinishedStepsStay(tiny: Recipe, cache: Cache) -> None:
    steps = (STEP_FIRST, Step("full", full, needs=("first",)))
    with pytest.raises(BuildError, match="step full: no space left on the disk"):
        run(tiny, cache, *steps)
    assert [item.cached for item in planned(tiny, cache, *steps)] == [True, False]


def test_GivenAStepThatFails_WhenRunAgain_ThenItStartsFromWhatItLeft(tiny: Recipe, cache: Cache) -> None:
    steps = (STEP_FIRST, Step("broken", broken, needs=("first",)))
    with pytest.raises(BuildError, match="does not go on"):
        run(tiny, cache, *steps)
    (left,) = cache.folder.glob("broken-*.partial")
    assert (left / "half.txt").exists()
    assert [item.cached for item in planned(tiny, cache, *steps)] == [True, False]


def test_GivenAStepBeforeItsNeeds_WhenPlanned_ThenItIsRefused(tiny: Recipe, cache: Cache) -> None:
    with pytest.raises(ValueError, match="step second needs first, which must come before it"):
        planned(tiny, cache, STEP_SECOND)


def test_GivenADamagedResult_WhenRun_ThenTheErrorNamesTheFolder(tiny: Recipe, cache: Cache) -> None:
    run(tiny, cache)
    (file,) = cache.folder.glob("first-*/result.json")
    file.write_text('{"file": 1')
    with pytest.raises(BuildError, match=f"{file} is damaged; delete"):
        run(tiny, cache)


def test_GivenABuildThatRuns_WhenAnotherStarts_ThenItIsRefusedByProcess(cache: Cache) -> None:
    with locked(cache), pytest.raises(BuildError, match=rf"running \(process {os.getpid()}\)"), locked(cache):
        pass
    with locked(cache):
        pass


class _Poison:
    """A field's value that no step may look at."""

    def __getattribute__(self, name: str) -> object:
        raise AssertionError("a step read a field that it does not declare")


def test_GivenTheRealSteps_WhenListed_ThenTheirNeedsComeFirstAndTheirReadsExist() -> None:
    seen: set[str] = set()
    for step in STEPS:
        assert seen.issuperset(step.needs), step.name
        assert set(step.reads or ()) <= set(Recipe.__dataclass_fields__), step.name
        seen.add(step.name)


@pytest.mark.parametrize("step", TRAINING, ids=lambda step: str(step.name))
def test_GivenFieldsThatAStepDoesNotDeclare_WhenItRuns_ThenItDoesNotReadThem(
    tiny: Recipe, tmp_path: Path, step: Step
) -> None:
    splits, quick = data.load(tiny), replace(tiny, pruning=None)
    cache = Cache(tmp_path / "tiny")
    steps = TRAINING[: TRAINING.index(step) + 1]
    before = pipeline.run(quick, splits, pipeline.plan(quick, splits, steps[:-1], cache), cache)
    poisoned = {name: _Poison() for name in Recipe.__dataclass_fields__ if name not in (step.reads or ())}
    work = Work(replace(quick, **poisoned), splits, tmp_path)  # type: ignore[arg-type]  # poison, on purpose
    step.function(work, *(before[need] for need in step.needs))
    assert PRUNE in TRAINING


def test_GivenANetworkThatFailsInAStep_WhenRun_ThenRecipeStepCauseAndPlaceAreNamed(
    tiny: Recipe, tmp_path: Path
) -> None:
    cache, splits = Cache(tmp_path), data.load(tiny)
    steps = (STEP_FIRST, Step("broken", misshapen, needs=("first",)))
    with pytest.raises(BuildError) as caught:
        pipeline.run(tiny, splits, pipeline.plan(tiny, splits, steps, cache), cache)
    said = str(caught.value)
    assert "recipe tiny: step broken: RuntimeError: mat1 and mat2 shapes cannot be multiplied" in said
    assert "test_pipeline.py, line" in said
    log = Path(said.partition("all of it: ")[2])
    assert "Traceback" in log.read_text()
    assert cache.has("first", pipeline.plan(tiny, splits, steps, cache)[0].key)
