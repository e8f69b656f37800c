"""What a network consists of: its layers, their parameters, and the memory that they take."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from typing import NamedTuple

from fastbp.backprop.layout import Plan
from fastbp.backprop.state import OptimizerState

_COLUMNS = ("layer", "activation", "weights", "biases", "parameters", "bytes")


class Row(NamedTuple):
    """A layer of a network, and what it takes."""

    layer: int
    activation: str
    fan_in: int
    fan_out: int
    n_parameters: int
    n_bytes: int

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts of `_COLUMNS`."""
        shapes = f"{self.fan_in} x {self.fan_out}", f"{self.fan_out}"
        sizes = f"{self.n_parameters:,}", f"{self.n_bytes:,}"
        return (f"{self.layer}", self.activation, *shapes, *sizes)


class Summary:
    """A table of a network's layers: text where it is printed, HTML in a notebook.

    Attributes
    ----------
    title : str
        The network in a line.
    rows : list of Row
        ``layer, activation, fan_in, fan_out, n_parameters, n_bytes`` of each layer, from 1 on.
    n_parameters, n_bytes : int
        Of all layers.
    optimizer : str
        What the optimizer keeps for the next step.
    n_optimizer_bytes : int
    """

    def __init__(
        self, title: str, plan: Plan, activation: str, itemsize: int, kept: OptimizerState
    ) -> None:
        self.title = title
        self.rows = []
        sizes = plan.sizes
        for layer, (fan_in, fan_out) in enumerate(pairwise(sizes), 1):
            n = (fan_in + 1) * fan_out
            kind = "softmax" if layer == len(sizes) - 1 else activation
            self.rows.append(Row(layer, kind, fan_in, fan_out, n, n * itemsize))
        self.n_parameters = plan.n_parameters
        self.n_bytes = plan.n_parameters * itemsize
        n = int(kept.n_updates[0])
        what = "velocity" if kept.second_moment is None else "first and second moment of Adam"
        self.optimizer = f"{what} after {n:,} update{'' if n == 1 else 's'}"
        moments = kept.velocity, kept.second_moment
        self.n_optimizer_bytes = sum(x.nbytes for x in moments if x is not None)

    @property
    def _total(self) -> tuple[str, ...]:
        return ("all", "", "", "", f"{self.n_parameters:,}", f"{self.n_bytes:,}")

    @property
    def _note(self) -> str:
        return f"Optimizer: {self.optimizer}, {self.n_optimizer_bytes:,} bytes"

    def __repr__(self) -> str:
        """Draw the table as text."""
        table = [_COLUMNS, *(row.cells for row in self.rows), self._total]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        aligned = "<<>>>>"  # names to the left, numbers to the right
        cells = [[f"{c:{a}{w}}" for c, a, w in zip(r, aligned, widths, strict=True)] for r in table]
        return "\n".join([self.title, *("  ".join(r).rstrip() for r in cells), self._note])

    def _repr_html_(self) -> str:
        """Draw the table for a notebook."""
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        rows = [row.cells for row in self.rows] + [self._total]
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        return (
            f"<p>{escape(self.title)}</p><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table><p>{self._note}</p>"
        )
