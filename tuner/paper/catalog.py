"""The findings by name, in the paper's order."""

from __future__ import annotations

from tuner.errors import unknown_name
from tuner.paper import adaptive, alpha, features, rates, speed, warmup, weight_decay
from tuner.paper.finding import Finding

_MODULES = (rates, alpha, weight_decay, warmup, adaptive, features, speed)
FINDINGS: dict[str, Finding] = {module.FINDING.name: module.FINDING for module in _MODULES}
ALL = "all"


def find_findings(name: str) -> tuple[Finding, ...]:
    """Return the finding of a name, or all of them for `all`.

    Raises:
        InvalidInput: the name is unknown.
    """
    if name == ALL:
        return tuple(FINDINGS.values())
    if name not in FINDINGS:
        raise unknown_name("finding", name, [*FINDINGS, ALL])
    return (FINDINGS[name],)
