"""The report of a study as one HTML file, which needs no network and no server.

- page.py: the page's data, its sections and its template
- live.py: the parts of the page that change while a study runs
- templating.py: Jinja templates, their content policy, and safe embedding of data
- templates/: the templates, styles and scripts

Begin with page.py.
"""

from tuner.report.html.page import to_html, write_html

__all__ = ["to_html", "write_html"]
