"""How every plot of the report looks: one palette, one style, inline SVG pictures."""

from __future__ import annotations

import base64
import io
import textwrap
import warnings
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colours, told apart by readers with any common colour-vision deficiency.
ARCHIVE = "#98a2ad"
SELECTED = "#0072b2"
COMPARED = "#e69f00"
INK = "#1d2733"
MUTED = "#5b6775"
GRID = "#e3e8ed"
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c8c00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

# Typed loosely: the key type of rcParams differs between matplotlib releases.
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs on every machine
    "font.size": 9.0,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titlepad": 9.0,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#b8c1ca",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "svg.fonttype": "path",
    "svg.hashsalt": "balancer",  # ids inside the SVG do not change from run to run
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A plot as a data URI, with its text alternative and its size in CSS pixels."""

    alt: str
    uri: str
    width: int
    height: int


class Canvas:
    """A figure with one pair of axes in the house style, and its way to a `Picture`.

    Made without pyplot, so there is no global state; the style holds inside the constructor and
    `picture` only. Long names beside the axes push the title to the right: `margin` inches of the
    width are then not for it.
    """

    def __init__(
        self, title: str, *, width: float = 5.0, height: float = 3.3, margin: float = 0.0
    ) -> None:
        with mpl.rc_context(_STYLE):
            self.figure = Figure(figsize=(width, height), layout="constrained")
            self.axes: Axes = self.figure.add_subplot()
            # A 10.5 point bold glyph is about 0.09 inch wide.
            wrapped = textwrap.fill(safe_text(title), max(20, int((width - margin) / 0.095)))
            self.axes.set_title(wrapped)
        self._size = (width, height)

    def label(self, x: str, y: str) -> None:
        """Name the axes."""
        self.axes.set_xlabel(safe_text(x))
        self.axes.set_ylabel(safe_text(y))

    def legend_below(self, columns: int) -> None:
        """Put the legend under the axes, where it hides nothing."""
        with mpl.rc_context(_STYLE):
            legend = self.figure.legend(loc="outside lower left", ncols=columns)
            for handle in legend.legend_handles:
                if isinstance(handle, PathCollection):  # the dots of a scatter plot
                    handle.set_sizes([24.0])

    def color_scale(self, drawn: ScalarMappable, label: str) -> None:
        """Put a colour bar of whole numbers beside the axes."""
        with mpl.rc_context(_STYLE):
            bar = self.figure.colorbar(drawn, ax=self.axes, shrink=0.7, pad=0.02)
            bar.set_label(label)
            bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))

    def whole_numbers(self, *, x: bool = False, y: bool = False) -> None:
        """Keep the ticks of an axis to whole numbers."""
        if x:
            self.axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if y:
            self.axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))

    def png(self) -> bytes:
        """Draw the figure as a PNG of 160 dots per inch, for documents that cannot hold SVG."""
        buffer = io.BytesIO()
        with mpl.rc_context(_STYLE), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            self.figure.savefig(buffer, format="png", dpi=160, facecolor="white")
        return buffer.getvalue()

    def picture(self, alt: str) -> Picture:
        """Draw the figure as an SVG data URI; the same figure always gives the same bytes."""
        buffer = io.BytesIO()
        with mpl.rc_context(_STYLE), warnings.catch_warnings():
            # A name in a script that the font lacks is drawn as boxes; the page's text has it.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            self.figure.savefig(
                buffer, format="svg", dpi=200, facecolor="white", metadata={"Date": None}
            )
        encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
        width, height = self._size
        return Picture(
            alt, f"data:image/svg+xml;base64,{encoded}", round(96 * width), round(96 * height)
        )


def safe_text(text: str) -> str:
    r"""Return text that matplotlib draws as it stands: no mathematics, no control characters.

    >>> print(safe_text("cost $1$"))
    cost \$1\$
    """
    return "".join(c if c.isprintable() else " " for c in text).replace("$", r"\$")


def shorten(text: str, length: int) -> str:
    """Cut a name to a length, with an ellipsis.

    >>> shorten("HerbaceousVegetation", 10)
    'Herbaceou…'
    """
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"
