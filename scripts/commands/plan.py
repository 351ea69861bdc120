"""`turnout plan`: replay a trace through the router and say what each design would cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from handlers.errors import InvalidInput

if TYPE_CHECKING:
    from rich.console import Console

    from scripts.simulate.scenario import Scenario, SnapStart
    from scripts.simulate.trace import Trace

app = typer.Typer()

Text = Optional[str]  # noqa: UP045 - typer reads annotations at run time
Number = Optional[float]  # noqa: UP045
File = Optional[Path]  # noqa: UP045


@app.command()
def plan(
    model: Annotated[Text, typer.Option(help="Plan for this model's current release.")] = None,
    profile: Annotated[File, typer.Option(help="Or for a profile: a JSON file.")] = None,
    trace: Annotated[File, typer.Option(help="CSV, JSONL, access log or counts; gzip or plain.")] = None,
    synthetic: Annotated[Text, typer.Option(help="Or: poisson, mmpp, diurnal, flash-crowd.")] = None,
    from_logs: Annotated[File, typer.Option(help="Or turnout's own request log: the regret report.")] = None,
    stage: Annotated[str, typer.Option(help="Whose prices apply to --model.")] = "local",
    start: Annotated[Text, typer.Option("--from", help="From here: seconds, 15m, 2h, 1d.")] = None,
    end: Annotated[Text, typer.Option("--to", help="Up to here.")] = None,
    scale: Annotated[float, typer.Option(help="Times the traffic.")] = 1.0,
    slo_ms: Annotated[Number, typer.Option(help="Another latency objective.")] = None,
    attainment: Annotated[Number, typer.Option(help="Another share that must meet it.")] = None,
    gpu: Annotated[Text, typer.Option(help="Another instance type's price, e.g. ml.g5.xlarge.")] = None,
    policies: Annotated[str, typer.Option(help="all, or names with commas.")] = "all",
    rps: Annotated[float, typer.Option(help="Mean rate of a synthetic trace.")] = 10.0,
    duration: Annotated[str, typer.Option(help="Length of a synthetic trace.")] = "1h",
    seed: Annotated[int, typer.Option(help="All chance comes from it.", min=0)] = 0,
    time_column: Annotated[Text, typer.Option(help="The column that holds the time.")] = None,
    time_unit: Annotated[Text, typer.Option(help="s, ms, us or ns, for times that are numbers.")] = None,
    function: Annotated[Text, typer.Option(help="One function of a trace with many.")] = None,
    skip_malformed: Annotated[bool, typer.Option(help="Leave bad rows out and count them.")] = False,
    snapstart: Annotated[str, typer.Option(help="on, off, auto (as the stage, or if needed).")] = "auto",
    keep_alive: Annotated[str, typer.Option(help="How long an idle sandbox lives.")] = "10m",
    concurrency: Annotated[int, typer.Option(help="Most sandboxes at once.", min=1)] = 1000,
    sweep: Annotated[bool, typer.Option(help="Vary price and traffic too.")] = False,
    report: Annotated[File, typer.Option(help="Write one HTML file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    gpu_hours: Annotated[Number, typer.Option(help="With --from-logs: instance-hours paid for.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare with the committed results.")] = False,
    accept: Annotated[bool, typer.Option(help="With --check: write the new result.")] = False,
    table: Annotated[bool, typer.Option("--table", help="Regenerate the table of docs/planner.md.")] = False,
) -> None:
    """What each design would cost for this traffic, how often it would miss, how far from the best."""
    from dataclasses import replace

    from rich.console import Console as Terminal

    from scripts.simulate import check as checking
    from scripts.simulate import tables
    from scripts.simulate.advice import advise
    from scripts.simulate.designs import chosen
    from scripts.simulate.plan import make_plan, summary
    from scripts.simulate.regret import regret_report
    from scripts.simulate.report import write_report
    from scripts.simulate.rows import Options
    from scripts.simulate.shown import show
    from scripts.simulate.sweeps import sweep as sweep_all

    if check:
        checking.command(as_json, accept)
        return
    if table:
        tables.command()
        return
    names = chosen(policies)
    scenario = _scenario(model, profile, stage, gpu)
    scenario = replace(
        scenario,
        latency_slo_ms=slo_ms if slo_ms is not None else scenario.latency_slo_ms,
        attainment=attainment if attainment is not None else scenario.attainment,
        cloud=replace(
            scenario.cloud,
            keep_alive_s=seconds("--keep-alive", keep_alive) or 0.0,
            concurrency=concurrency,
            snap_start=_snap_start(snapstart, scenario.cloud.snap_start),
        ),
    )
    options = Options(time_column, time_unit, function, skip_malformed, seed)
    if from_logs is not None:
        regret_report(from_logs, scenario, options, as_json, gpu_hours)
        return
    traffic = _trace(trace, synthetic, rps, seconds("--duration", duration), options)
    if start is not None or end is not None:
        traffic = traffic.window(seconds("--from", start), seconds("--to", end))
    traffic = traffic.scaled(scale, seed)
    if report is not None and not report.parent.is_dir():
        raise InvalidInput("--report", str(report), "a file in a folder that exists")
    errors = Terminal(stderr=True)
    with _progress(errors) as advance:
        made = make_plan(scenario, traffic, names, seed, advance, choose_snap_start=snapstart == "auto")
        wide = (sweep or report is not None) and "turnout" in names
        points = (
            sweep_all(made.scenario, traffic, seed, lambda kind: advance(f"sweep: {kind}", 0, 1))
            if wide
            else []
        )
    advice = advise(made)
    if report is not None:
        write_report(report, made, advice, points)
        errors.print(f"report: {report}", highlight=False)
    if as_json:
        body = summary(made)
        body["recommendation"] = {
            "policy": advice.policy, "text": list(advice.sentences), "turnout_toml": advice.toml,
        }  # fmt: skip
        body["sensitivity"] = [
            {"sweep": p.sweep, "value": p.value, "cost_usd": p.cost_usd, "regret": p.regret,
             "attainment": p.attainment, "accuracy": p.accuracy, "gpu_hours": p.gpu_hours}
            for p in points
        ]  # fmt: skip
        print(json.dumps(body, indent=2))
        return
    show(Terminal(width=None if Terminal().is_terminal else 180), made, advice, points if sweep else [])


def _snap_start(asked: str, stated: SnapStart | None) -> SnapStart | None:
    from scripts.simulate.scenario import SnapStart

    choices = {"auto": stated, "on": SnapStart(), "off": None}
    if asked not in choices:
        raise InvalidInput("--snapstart", asked, ", ".join(choices))
    return choices[asked]


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr for whatever is being replayed."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading")
        yield lambda what, done, of: bar.update(task, description=what, completed=done, total=max(of, 1))


def seconds(option: str, text: str | None) -> float | None:
    """A length of time: a number of seconds, or one with s, m, h or d."""
    if text is None:
        return None
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}.get(text[-1:])
    try:
        value = float(text[:-1] if unit else text) * (unit or 1.0)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1e10:
        raise InvalidInput(option, text, "a number of seconds, or one followed by s, m, h or d")
    return value


def _scenario(model: str | None, profile: Path | None, stage: str, gpu: str | None) -> Scenario:
    from scripts.simulate import released
    from scripts.simulate.scenario import read_profile

    if (model is None) == (profile is None):
        raise InvalidInput("--model/--profile", model, "exactly one of --model NAME and --profile FILE")
    scenario = read_profile(profile) if profile else released.from_release(str(model), stage)
    return released.with_gpu(scenario, gpu) if gpu else scenario


def _trace(
    path: Path | None, synthetic: str | None, rps: float, length_s: float | None, options: object
) -> Trace:
    from scripts.simulate.readers import read
    from scripts.simulate.rows import Options
    from scripts.simulate.synthetic import generate

    assert isinstance(options, Options)  # noqa: S101 - narrows a lazily imported type
    if (path is None) == (synthetic is None):
        raise InvalidInput(
            "--trace", path and str(path), "exactly one of --trace, --synthetic and --from-logs"
        )
    if path is not None:
        return read(path, options)
    return generate(str(synthetic), rps, length_s or 3600.0, options.seed)
