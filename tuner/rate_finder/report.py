"""Show the found rates: as text, as JSON and as a chart."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import altair as alt
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuner.rate_finder.estimate import LADDER, FoundRates, Probe
from tuner.report.charts.base import HEIGHT, WIDTH, ChartSpec
from tuner.report.formatting import one_line
from tuner.vega import BLUE, GREY, ORANGE, AnyChart, number_of, values, write_picture

FELL = {True: "fell", False: "did not fall", None: "too few steps to tell"}


def print_rates(found: FoundRates, console: Console) -> None:
    """Print the probed rates with their forecasts, then the rate and the range to search."""
    console.print(Text(_headline(found), style="bold"), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    rate = rate_words(found)
    for name in (rate, "final distance", "90 % within", "train loss in the probe"):
        table.add_column(name, justify="right" if name == rate else "left", no_wrap=True)
    for probe, ends, fell in _rows(found):
        loss = f"{found.probed.probes[0].losses[0]:.3g} to {probe.end_loss:.3g}, {FELL[fell]}"
        row = (f"{probe.rate:.3g}", f"{ends.mid:.2f}", f"{ends.low:.2f} to {ends.high:.2f}", loss)
        table.add_row(*row)
    # As wide as the digits need, even where the terminal is narrower.
    wide = console.options.update_width(10_000)
    table.width = console.measure(table, options=wide).maximum
    console.print(table, soft_wrap=True)
    for line in _lines(found):
        console.print(Text(one_line(line)), soft_wrap=True)


def rates_json(found: FoundRates) -> str:
    """Return one JSON object; unknown figures are null."""
    low, high = found.range
    lagging = found.lagging()
    return json.dumps(
        {
            "config": dict(found.config),
            "momentum": found.probed.momentum,
            "steps": len(found.probed.factors),
            "distance": found.distance,
            "rate": found.rate,
            "range": [low, high],
            "ladder": {f"{distance:g}": rate for distance, rate in found.ladder(LADDER).items()},
            "targetable": found.targetable,
            "probes": [
                {
                    "rate": probe.rate,
                    "steps": probe.steps[-1],
                    "low": ends.low,
                    "mid": ends.mid,
                    "high": ends.high,
                    "start_loss": _or_null(found.probed.probes[0].losses[0]),
                    "end_loss": _or_null(probe.end_loss),
                    "learns": fell,
                }
                for probe, ends, fell in _rows(found)
            ],
            "lagging": None
            if lagging is None
            else [{"layer": a.layer, "distance": a.distance, "times": a.times} for a in lagging],
            "cost": {
                "steps": found.probed.steps,
                "epochs": found.probed.epochs,
                "seconds": found.probed.seconds,
            },
        },
        indent=1,
        allow_nan=False,
        default=str,
    )


def rate_words(found: FoundRates) -> str:
    """Return the name of the rates: "rate" for Layca's, else "learning rate"."""
    return "rate" if found.probed.sets_rotation else "learning rate"


def write_rates_plot(found: FoundRates, path: Path) -> None:
    """Write the curve to a .png or .svg file; an existing file is replaced.

    Raises:
        InvalidInput: the file has another ending, or cannot be written.
    """
    write_picture(draw_rates(found).titled(), path)


def _headline(found: FoundRates) -> str:
    keys = ", ".join(f"{key} {_short(value)}" for key, value in sorted(found.config.items()))
    probed = found.probed
    epochs = len(probed.factors) / probed.steps_per_epoch
    return one_line(f"{keys}; {epochs:g} epochs of {probed.steps_per_epoch} steps")


def _rows(found: FoundRates) -> Iterator[tuple[Probe, Any, bool | None]]:
    probes = found.probed.probes
    ends = found.distances([probe.rate for probe in probes])
    return zip(probes, ends, found.learns, strict=True)


def _lines(found: FoundRates) -> Iterator[str]:
    low, high = found.range
    (ends,) = found.distances([found.rate])
    yield (
        f"{rate_words(found)} for {found.distance:g}: {found.rate:.3g} "
        f"(90 % within {ends.low:.2f} to {ends.high:.2f})"
    )
    least, most = (each.mid for each in found.distances(found.range))
    yield f"range to search: {low:.3g} to {high:.3g}, for {least:.2g} to {most:.2g}"
    yield _lagging(found)
    probed = found.probed
    yield f"cost: {probed.steps} steps, {probed.epochs:.2g} epochs in all, {probed.seconds:.1f} s"
    if found.targetable is False:
        yield _not_targetable(found)
        return
    if found.targetable is None:
        few = found.probed.probes[0].steps[-1]
        yield f"{few} steps are too few to know whether it learns there: try --set batch_size=32"
        if not found.probed.sets_rotation:  # the rotation of Layca's rates is known without probes
            return
    optimizer = found.config.get("optimizer", "layca")
    yield f'next: "optimizer": "{optimizer}", "lr": {found.rate:.3g}'
    yield (
        f'or search: "optimizer": "{optimizer}", '
        f'"lr": trial.suggest_float("lr", {low:.3g}, {high:.3g}, log=True)'
    )


def _lagging(found: FoundRates) -> str:
    lagging = found.lagging()
    if lagging is None:
        return "lagging layers: unknown, because the probes were too short"
    if not lagging:
        return f"lagging layers: no hidden layer at {found.rate:.3g}"
    layers = ", ".join(
        f"{a.layer} ({a.distance:.2f}; {a.times:.1f} times the rate)" for a in lagging
    )
    return f"lagging layers at {found.rate:.3g}, with the rate that each needs: {layers}"


def _not_targetable(found: FoundRates) -> str:
    learnt = [(probe, ends) for probe, ends, fell in _rows(found) if fell]
    if not learnt:
        return (
            "rotation cannot be targeted: the train loss fell at none of these rates; check first "
            "that the network learns with another optimizer"
        )
    if not found.reached:
        most, least = found.curve[-1], found.curve[0]
        (rate, ends), further = (
            (most, "so far") if most[1].mid < found.distance else (least, "less")
        )
        remedy = "more epochs, or aim lower" if further == "so far" else "fewer epochs, or higher"
        return (
            f"rotation of {found.distance:g} cannot be targeted: no {rate_words(found)} is known "
            f"to turn them {further}, {rate:.3g} comes to {ends.mid:.2g}: train for {remedy} "
            "with --distance"
        )
    probe, ends = learnt[-1]
    return (
        f"rotation of {found.distance:g} cannot be targeted: held at its rate, the train loss does "
        f"not fall; the highest rate at which it did is {probe.rate:.3g}, for {ends.mid:.2f}: "
        "train for more epochs, or aim lower with --distance"
    )


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None


# The curve is drawn between these distances; outside of them it is flat.
_LEAST, _MOST = 0.01, 0.999


def draw_rates(found: FoundRates) -> ChartSpec:
    """Return a chart of the curve with its interval, the probes, and the rate for the distance."""
    curve = [
        {"rate": rate, "low": ends.low, "mid": ends.mid, "high": ends.high}
        for rate, ends in found.curve
        if _LEAST < ends.mid < _MOST
    ]
    rates = [probe.rate for probe in found.probed.probes]
    probes = [
        {"rate": rate, "mid": ends.mid, "loss": FELL[fell]}
        for rate, ends, fell in zip(rates, found.distances(rates), found.learns, strict=True)
    ]
    (ends,) = found.distances([found.rate])
    axis = alt.Axis(format="~g", tickCount=6, labelOverlap="greedy")
    rate = alt.X(**number_of("rate", rate_words(found), type="log", zero=alt.Undefined), axis=axis)
    distance = "final cosine distance of the hidden layers"
    base = alt.Chart(values(curve)).encode(rate)
    colour = alt.Color(
        field="loss",
        type="nominal",
        title="train loss in the probe",
        scale=alt.Scale(domain=list(FELL.values()), range=[BLUE, ORANGE, GREY]),
        legend=alt.Legend(orient="top"),
    )
    chart: AnyChart = alt.layer(
        base.mark_area(opacity=0.2, color=BLUE).encode(
            alt.Y(**number_of("low", distance, domain=[0, 1])), alt.Y2(field="high")
        ),
        base.mark_line(color=BLUE).encode(alt.Y(**number_of("mid", distance))),
        alt.Chart(values([{"rate": found.rate}])).mark_rule(strokeDash=[4, 4]).encode(rate),
        alt.Chart(values(probes))
        .mark_point(filled=True, size=70, opacity=1)
        .encode(rate, alt.Y(**number_of("mid", distance)), colour),
    ).properties(width=WIDTH, height=HEIGHT)
    return ChartSpec(
        chart,
        f"A {rate_words(found)} of {found.rate:.3g} is forecast to turn the hidden layers by "
        f"{ends.mid:.2g}",
        "Final distance of the median hidden layer at each rate, with its 90 % interval. Each "
        "point is a probe.",
    )
