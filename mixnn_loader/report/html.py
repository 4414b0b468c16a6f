"""A label report as one page, which opens without a server and asks nothing of any."""

import datetime as dt
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mixnn_loader._utils.installed import own_version
from mixnn_loader.report.page_data import as_json


def check_installed() -> None:
    """Check that a page can be made.

    Raises:
        ImportError: Jinja2 is not installed.
    """
    if find_spec("jinja2") is None:
        raise ImportError("the page needs Jinja2: python -m pip install 'mixnn_loader[report]'")


def write_html(data: dict[str, Any], path: Path, title: str) -> None:
    """Write the page.

    Args:
        data: what it shows, see `mixnn_loader.report.page_data`.
        path: the file.
        title: of the page.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mixnn_loader.report", "page"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    num_rows, (low, high) = len(data["rows"]), data["interval"]
    text = environment.get_template("template.html.j2").render(
        title=title,
        expected=round(data["wrongLabels"]),
        low=round(low),
        high=round(high),
        num_samples=data["numSamples"],
        num_issues=data["numIssues"],
        num_rows=num_rows,
        num_issues_here=data["numIssuesHere"],
        start=max(data["lastIssue"], 1),
        date=dt.date.today().isoformat(),
        version=own_version(),
        data=Markup(as_json(data)),  # escaped for where it stands
    )
    path.write_text(text, encoding="utf-8", errors="backslashreplace")  # of file names that are no text
