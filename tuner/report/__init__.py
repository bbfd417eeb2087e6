"""Reports of a study: it reads through `tuner.study`, and never imports Ray."""

from tuner.report.document import headline, rows, to_json
from tuner.report.outcome import print_outcome
from tuner.report.table import print_report

__all__ = ["headline", "print_outcome", "print_report", "rows", "to_json"]
