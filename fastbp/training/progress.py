"""What a training shows of its progress."""

from __future__ import annotations

import sys
from typing import Any


class Progress:
    """A tqdm bar over the rows in a terminal or a notebook, else a line per epoch, or nothing.

    Parameters
    ----------
    show : bool
    last_epoch : int
        Number of the last epoch to be trained.
    n_steps : int or None
        Steps of all epochs together; None if that is not known.
    batch_size : int
        Rows of a step.
    """

    def __init__(self, show: bool, last_epoch: int, n_steps: int | None, batch_size: int) -> None:
        self._bar: Any = None
        self._prints = show
        self._last_epoch = last_epoch
        if show:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            in_notebook = any(kind.__module__ == "tqdm.notebook" for kind in tqdm.__mro__)
            if in_notebook or sys.stderr.isatty():
                self._bar = tqdm(
                    total=n_steps, unit=" rows", unit_scale=batch_size, dynamic_ncols=True
                )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def steps(self, n: int) -> None:
        """Show that ``n`` more steps have been made."""
        if self._bar is not None:
            self._bar.update(n)

    def epoch(self, number: int, entry: dict[str, float]) -> None:
        """Show the values of an epoch."""
        values = [f"{name} {value:.4f}" for name, value in entry.items() if name != "time"]
        line = f"epoch {number}/{self._last_epoch}  " + "  ".join(values)
        if self._bar is not None:
            self._bar.set_postfix_str(line)
        elif self._prints:
            print(f"{line}  {entry['time']:.2f} s", file=sys.stderr, flush=True)
