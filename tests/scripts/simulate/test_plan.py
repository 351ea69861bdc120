"""`turnout plan` from the outside: its JSON, its advice, its report, its gate, its refusals."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from handlers.errors import InvalidInput
from infra import config
from scripts.commands.plan import app, seconds
from scripts.simulate.check import EXPECTED, moved
from scripts.simulate.regret import read_log
from scripts.simulate.rows import InvalidTrace, Options
from scripts.simulate.svg import Chart
from scripts.simulate.tables import PROFILES

HEAVY = str(PROFILES / "heavy.json")
SYNTHETIC = ["--profile", HEAVY, "--synthetic", "poisson", "--rps", "4", "--duration", "20m"]
NAMES = {"turnout", "all_cpu", "all_gpu", "best_fixed", "target_tracking", "mark", "break_even"}
NUMBERS = {"cost_usd", "attainment", "regret", "p99_ms", "accuracy", "gpu_hours", "cold_starts"}


def planned(*options: str) -> dict[str, object]:
    result = CliRunner().invoke(app, [*options, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    body = json.loads(result.stdout)
    assert isinstance(body, dict)
    return body


def test_json_has_the_promised_keys() -> None:
    """Given a synthetic trace, then stdout is one JSON document with the keys that scripts rely on."""
    body = planned(*SYNTHETIC, "--seed", "3")
    assert {"optimum_usd", "policies", "requests", "wall_s", "seed"} <= body.keys()
    policies = body["policies"]
    assert isinstance(policies, dict)
    assert policies.keys() >= NAMES
    for numbers in policies.values():
        assert numbers.keys() >= NUMBERS
        assert numbers["regret"] == pytest.approx(numbers["cost_usd"] / body["optimum_usd"])
    assert body["seed"] == 3


def test_the_same_seed_gives_the_same_plan() -> None:
    """Given one seed twice, then everything but the time it took is the same."""
    one, two = (planned(*SYNTHETIC, "--policies", "turnout,all_cpu") for _ in range(2))
    del one["wall_s"], two["wall_s"]
    assert one == two


def test_snapstart_is_planned_where_the_objective_needs_it_and_paid_for() -> None:
    """Given bursts whose cold starts miss the objective, then sandboxes are restored, unless told not to."""
    bursts = ["--profile", HEAVY, "--synthetic", "mmpp", "--rps", "4", "--duration", "20m", "--seed", "20"]
    asked = {
        how: planned(*bursts, "--policies", "all_cpu", "--snapstart", how) for how in ("auto", "on", "off")
    }
    usd = {how: body["policies"]["all_cpu"]["components_usd"] for how, body in asked.items()}  # type: ignore[index]
    met = {how: body["policies"]["all_cpu"]["attainment"] for how, body in asked.items()}  # type: ignore[index]
    assert [body["snapstart"] for body in asked.values()] == [True, True, False]
    assert "snapstart = true" in asked["auto"]["recommendation"]["turnout_toml"]  # type: ignore[index]
    assert usd["auto"] == usd["on"]
    assert usd["auto"]["SnapStart cache"] > 0.0
    assert met["off"] < 0.99 <= met["auto"]
    assert planned(*SYNTHETIC, "--policies", "all_cpu")["snapstart"] is False


def test_the_advice_can_be_pasted() -> None:
    """Given a plan, then its lines of turnout.toml pass turnout's own check once the recipe is named."""
    body = planned(*SYNTHETIC, "--gpu", "ml.g5.xlarge")
    recommendation = body["recommendation"]
    assert isinstance(recommendation, dict)
    lines = recommendation["turnout_toml"].replace(
        '# recipe = "…": what builds the model', 'recipe = "digits"'
    )
    stage = '\n[stages.dev]\nmodels = ["heavy"]\nmonthly_limit_usd = 10\n'
    parsed = config.parse(lines + stage).model("heavy")
    assert parsed.latency_slo_ms == 2500
    assert parsed.gpu is not None
    assert parsed.gpu.instance_type == "ml.g5.xlarge"


@pytest.mark.slow
def test_the_table_and_the_sentences_are_printed() -> None:
    """Given no --json, then a row for each policy and a plain recommendation are printed."""
    result = CliRunner().invoke(app, [*SYNTHETIC, "--policies", "turnout,all_cpu", "--sweep"])
    assert result.exit_code == 0
    assert "Take " in result.stdout
    assert "gpu_usd_per_hour" in result.stdout
    assert "[models.heavy]" in result.stdout


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.charts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.charts += tag == "svg" and any(name == "role" for name, _ in attrs)
        for name, value in attrs:
            if name in ("src", "href") or (value or "").startswith("http"):
                self.outside.append(f"{tag} {name}={value}")


@pytest.mark.slow
def test_the_report_is_one_offline_file(tmp_path: Path) -> None:
    """Given --report, then one file is written that refers to nothing outside itself and has its charts."""
    target = tmp_path / "plan.html"
    result = CliRunner().invoke(
        app, [*SYNTHETIC, "--policies", "turnout,all_cpu", "--report", str(target)], catch_exceptions=False
    )
    assert result.exit_code == 0
    links = Links()
    links.feed(target.read_text())
    assert links.outside == []
    assert links.charts >= 8
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--synthetic", "poisson"], "--model/--profile"),
        (["--profile", HEAVY], "--trace"),
        (["--profile", HEAVY, "--trace", "no-such-file"], "trace"),
        (["--profile", "no-such-file", "--synthetic", "poisson"], "--profile"),
        ([*SYNTHETIC, "--policies", "magic"], "--policies"),
        ([*SYNTHETIC, "--gpu", "ml.abacus"], "instance_type"),
        ([*SYNTHETIC, "--from", "soon"], "--from"),
        ([*SYNTHETIC, "--from", "30m"], "--from/--to"),
        ([*SYNTHETIC, "--slo-ms", "0"], "--slo-ms"),
        ([*SYNTHETIC, "--scale", "-1"], "--scale"),
        ([*SYNTHETIC, "--report", "no/such/folder/x.html"], "--report"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options: list[str], named: str) -> None:
    """Given an option that makes no sense, then the error names it."""
    result = CliRunner().invoke(app, options)
    assert isinstance(result.exception, InvalidInput)
    assert result.exception.field == named


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90.0), ("15m", 900.0), ("1.5h", 5400.0), ("2d", 172800.0)]
)
def test_lengths_of_time(text: str, value: float) -> None:
    """Given a number with or without a unit, then it is seconds."""
    assert seconds("--from", text) == value


def profile_with(folder: Path, change: str) -> Path:
    path = folder / "profile.json"
    path.write_text(change)
    return path


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[]", "--profile"),
        ("{", "--profile"),
        (Path(HEAVY).read_text().replace('"prices"', '"costs"'), "prices"),
        (Path(HEAVY).read_text().replace('_slo_ms": 2500', '_slo_ms": "soon"'), "latency_slo_ms"),
        (Path(HEAVY).read_text().replace('"memory_mb": 10240', '"memory_mb": 64'), "cpu.memory_mb"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(tmp_path: Path, text: str, named: str) -> None:
    """Given a profile that is broken, then the field is named."""
    path = profile_with(tmp_path, text)
    result = CliRunner().invoke(app, ["--profile", str(path), "--synthetic", "poisson"])
    assert isinstance(result.exception, InvalidInput)
    assert result.exception.field == named


def log_line(second: int, path: str = "cpu") -> str:
    return json.dumps(
        {
            "level": "INFO", "message": "answered", "timestamp": f"2026-01-01 00:{second // 60:02d}:"
            f"{second % 60:02d},250+0000", "path": path, "cost_usd": 1e-4, "objective_met": True,
            "degraded": None,
        }
    )  # fmt: skip


def test_the_regret_report_reads_turnouts_own_log(tmp_path: Path) -> None:
    """Given turnout's request log among other lines, then what was paid is held against the optimum."""
    log = tmp_path / "log.jsonl"
    lines = [
        "START RequestId: 1",
        '{"message": "action"}',
        *(log_line(i, "gpu" if i % 2 else "cpu") for i in range(600)),
    ]
    log.write_text("\n".join(lines))
    body = planned("--profile", HEAVY, "--from-logs", str(log), "--gpu-hours", "0.1")
    assert body["requests"] == 600
    assert body["paid_usd"] == pytest.approx(600e-4 + 0.141)
    assert body["regret"] == pytest.approx(body["paid_usd"] / body["optimum_usd"])  # type: ignore[operator]
    spoken = CliRunner().invoke(app, ["--profile", HEAVY, "--from-logs", str(log)])
    assert "you paid" in spoken.stdout


def test_dots_that_lie_on_each_other_share_a_label() -> None:
    """Given two dots at nearly one place and one elsewhere, then there are two texts, none over another."""
    chart = Chart((0.0, 10.0), (0.0, 1.0), "x", "y")
    for x, name in ((1.0, "a"), (9.0, "c"), (1.01, "b")):
        chart.dot(x, 0.5, name)
    drawn = chart.svg("dots")
    assert drawn.count("<circle") == 3
    assert ">a, b</text>" in drawn
    assert ">c</text>" in drawn


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timestamp", "never"),
        ("timestamp", None),
        ("path", "tpu"),
        ("cost_usd", -1.0),
        ("cost_usd", "1"),
        ("cost_usd", float("nan")),
        ("objective_met", "no"),
        ("degraded", 1),
    ],
)
def test_a_log_line_that_makes_no_sense_is_named_or_counted(
    tmp_path: Path, field: str, value: object
) -> None:
    """Given a field that is missing or wrong, then the line is refused by both names, or left out."""
    log = tmp_path / "log.jsonl"
    log.write_text(log_line(1) + "\n" + json.dumps(json.loads(log_line(2)) | {field: value}) + "\n")
    with pytest.raises(InvalidTrace, match=f"line 2, column {field}"):
        read_log(log, Options())
    found, rows = read_log(log, Options(skip_malformed=True))
    assert len(found) == 1
    assert (
        rows.summary() == rows.summary() == (f"1 malformed row skipped; the first is line 2, column {field}",)
    )


def test_a_log_of_nothing_is_refused(tmp_path: Path) -> None:
    """Given a file without a line of turnout's log, or hours that cannot be, then it says so."""
    log = tmp_path / "log.jsonl"
    log.write_text(log_line(1) + '\n{"message": "answered", broken\n')
    with pytest.raises(InvalidTrace, match="line 2, column 25"):
        read_log(log, Options())
    with pytest.raises(InvalidInput, match="--gpu-hours"):
        planned("--profile", HEAVY, "--from-logs", str(log), "--gpu-hours", "-1")
    log.write_text("nothing\n")
    with pytest.raises(InvalidTrace, match="--from-logs"):
        read_log(log, Options())


def test_the_gate_names_what_moved() -> None:
    """Given results that differ by more than the tolerance, then each number is named; within it, none."""
    expected = json.loads(EXPECTED.read_text())
    assert moved(expected, expected) == []
    changed = json.loads(json.dumps(expected))
    case = next(iter(changed))
    changed[case]["turnout"]["cost_usd"] *= 1.03
    changed[case]["all_cpu"]["attainment"] -= 0.0001
    assert [line for line in moved(expected, changed) if "turnout: cost_usd" in line]
    assert len(moved(expected, changed)) == 1
    del changed[case]
    assert any("only in the committed" in line for line in moved(expected, changed))


@pytest.mark.slow
def test_the_policy_costs_what_was_committed() -> None:
    """Given today's policy, when the synthetic set is planned afresh, then nothing has moved."""
    result = CliRunner().invoke(app, ["--check"])
    assert result.exit_code == 0, result.stdout
