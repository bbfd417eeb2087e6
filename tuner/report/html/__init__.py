"""A study's report as one HTML file that needs nothing else: no network, no server, no folder."""

from tuner.report.html.page import to_html, write_html

__all__ = ["to_html", "write_html"]
