"""The templates of the pages: everything that data brings is escaped."""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def page_environment() -> Environment:
    """Return the environment that all pages are made in; `style` is the package's own sheet.

    >>> page_environment().from_string("{{ name }}").render(name="<b>")
    '&lt;b&gt;'
    """
    environment = Environment(
        loader=PackageLoader("balancer", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sheet = resources.files("balancer.report").joinpath("page.css").read_text(encoding="utf-8")
    environment.globals["style"] = Markup(sheet)  # the package's own file
    return environment
