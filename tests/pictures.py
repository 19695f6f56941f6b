"""What can be told of a picture without looking at it."""

from __future__ import annotations

from matplotlib.figure import Figure as Picture
from matplotlib.text import Text


def texts_outside(figure: Picture) -> list[str]:
    """Return the texts of a picture that lie, in whole or in part, beyond its edges once it is laid out."""
    figure.canvas.draw()
    renderer, hidden = figure.canvas.get_renderer(), texts_not_drawn(figure)  # type: ignore[attr-defined]
    found = []
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden:
            box = text.get_window_extent(renderer)
            if min(box.x0, box.y0) < -0.5 or box.x1 > figure.bbox.x1 + 0.5 or box.y1 > figure.bbox.y1 + 0.5:
                found.append(text.get_text())
    return found


def texts_not_drawn(figure: Picture) -> set[Text]:
    """Return the labels of ticks beyond the ends of their axis, and all of axes that are turned off."""
    hidden: set[Text] = set()
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not panel.axison or not low <= tick.get_loc() <= high:
                    hidden |= {tick.label1, tick.label2}
            if not panel.axison:
                hidden.add(axis.label)
    return hidden
