"""A label report as one page, which opens without a server and asks nothing of any."""

import datetime as dt
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixnn_loader.report.page_data import as_json, page_data

if TYPE_CHECKING:
    from mixnn_loader.report.label_report import LabelReport


def write_html(report: "LabelReport", path: Path, dataset: Any, *, top: int, neighbors: int, title: str) -> None:
    """Write the page; see `LabelReport.to_html`."""
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError as error:
        raise ImportError("the page needs Jinja2: python -m pip install 'mixnn_loader[report]'") from error
    data = page_data(report, dataset, top=top, neighbors=neighbors)
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
        start=min(max(data["numIssues"], 1), num_rows),
        date=dt.date.today().isoformat(),
        version=version("mixnn_loader"),
        data=Markup(as_json(data)),  # escaped for where it stands
    )
    path.write_text(text, encoding="utf-8")
