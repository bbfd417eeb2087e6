"""What a study itself has shown of its pruning and of rotation, in a line each."""

from __future__ import annotations

from tuner.rotation import Criteria, Field
from tuner.rotation.weights import ROTATION
from tuner.study.result import StudyResult


def evidence(result: StudyResult) -> list[str]:
    """Return what audited trials and rotation have shown; nothing where there is neither."""
    return [*_audited(result), *_rotation(result)]


def _audited(result: StudyResult) -> list[str]:
    """What pruning would have cost, by the trials trained to their end all the same."""
    audited = [trial for trial in result.trials if trial.audit and trial.state == "complete"]
    others = [t.value for t in result.trials if t.state == "complete" and not t.audit]
    if not audited or not others:
        return []
    sign = 1 if result.mode == "max" else -1
    best = max(audited, key=lambda trial: sign * trial.value)
    ahead = sign * best.value - max(sign * value for value in others)
    what = "would have won" if ahead > 0 else "at best"
    where = f"{abs(ahead):.4g} {'ahead of' if ahead > 0 else 'behind'} the best of the others"
    return [
        f"audited {len(audited)} of the trials to be pruned to their end: {what} trial "
        f"{best.number} with {result.metric} {best.value:.4g}, {where}"
    ]


def _rotation(result: StudyResult) -> list[str]:
    """Whether rotation has ranked this study's own trials."""
    curves = {trial.number: trial.curve for trial in result.trials if trial.state != "failed"}
    if not any(curve.layers for curve in curves.values()):
        return []
    field = Field(Criteria(mode=result.mode), result.max_epochs).with_curves(curves)
    weights = field.weights
    mean, deviation = float(weights.mean[ROTATION]), float(weights.deviation[ROTATION])
    return [
        f"rotation here: {weights.rotation_is} (weight {mean:.2f} ± {deviation:.2f} beside "
        f"{float(weights.mean[0]):.2f} for {result.metric})"
    ]
