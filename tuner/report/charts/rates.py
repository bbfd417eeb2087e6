"""Rates against the final distance that is forecast for them."""

from __future__ import annotations

import altair as alt

from tuner.report.charts.drawn import (
    BLUE,
    GREY,
    HEIGHT,
    ORANGE,
    WIDTH,
    AnyChart,
    Drawn,
    number_of,
    values,
)
from tuner.report.rates import FELL, rate_words
from tuner.rotation.finding import FoundRates

# Where the curve is drawn: below and above it is flat.
_LEAST, _MOST = 0.01, 0.999


def drawn(found: FoundRates) -> Drawn:
    """Return the curve with its interval, the probes, and the rate for the distance aimed at."""
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
    return Drawn(
        chart,
        f"A {rate_words(found)} of {found.rate:.3g} is forecast to turn the hidden layers by "
        f"{ends.mid:.2g}",
        "How far the hidden layers' middle ends at each rate, and the interval that 90 % lie "
        "within; a point for each probe.",
    )
