"""Tables as the manual shows them: a header, dashes below it, columns as wide as their widest cell and five blanks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runtime.cli.console import visible

GAP = " " * 5
"""Between two columns, as in every table of the manual."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a table as text, each line with its end.

    A cell may hold anything: what is not visible is escaped (`console.visible`), so that a row is one line.
    """
    lines = [tuple(header), tuple("-" * len(title) for title in header)]
    lines += [tuple(visible(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(_line(cells, widths) for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return GAP.join(padded).rstrip() + "\n"
