"""The report of a study as one HTML file, which needs no network and no server."""

from tuner.report.html.page import to_html, write_html

__all__ = ["to_html", "write_html"]
