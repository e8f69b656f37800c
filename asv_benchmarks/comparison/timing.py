"""Candidates timed in turns, and the lines of a table."""

import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MET = {True: "yes", False: "no", None: ""}

Block = Callable[[int], object]  # does the job so many times

# With time.process_time in its place, what other processes do meanwhile does not count.
clock = time.perf_counter


@dataclass
class Timing:
    """Seconds for one job: for each candidate, fastbp among them, one figure a round."""

    seconds: dict[str, list[float]]

    def peers(self) -> list[str]:
        return [name for name in self.seconds if name != "fastbp"]

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def medians(self) -> dict[str, float]:
        return {name: self.median(name) for name in self.seconds}

    def ratio(self, peer: str) -> float:
        """Median over the rounds of (time of the peer) / (time of fastbp)."""
        pairs = zip(self.seconds[peer], self.seconds["fastbp"], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)


@dataclass
class Result:
    """One comparison: its goal, whether it was met (None: nobody to compare with), its medians."""

    family: str
    title: str
    goal: float
    met: bool | None
    seconds: dict[str, float]


def take_turns(blocks: dict[str, Block], calls: dict[str, int], rounds: int) -> Timing:
    """Time a block of every candidate in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in blocks}
    order = list(blocks)
    for _ in range(rounds):
        for name in order:
            seconds[name].append(time_block(blocks[name], calls[name]))
        order.append(order.pop(0))  # nobody always follows the same neighbour
    return Timing(seconds)


def time_block(block: Block, n_calls: int) -> float:
    start = clock()
    block(n_calls)
    return (clock() - start) / n_calls


def calls_in_a_block(block: Block, block_seconds: float) -> int:
    """Calls that take ``block_seconds`` together; finding out warms up, too."""
    n_calls = 1
    while (seconds := time_block(block, n_calls) * n_calls) < block_seconds:
        n_calls = max(2 * n_calls, int(n_calls * min(100, block_seconds / max(seconds, 1e-9))))
    return n_calls


def repeated(call: Callable[[], object]) -> Block:
    def block(n_calls: int) -> None:
        for _ in range(n_calls):
            call()

    return block


def met(rivals: Sequence[float], goal: float) -> bool | None:
    """Whether even the fastest rival takes ``goal`` times as long; None without any."""
    return min(rivals) >= goal if rivals else None


def print_head(*cells: str) -> None:
    print_line(*cells)
    print("|" + "---|" * len(cells))


def print_line(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


class OptionalModule:
    """A module that is imported when first used, and false where it is not installed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._found = importlib.util.find_spec(name.partition(".")[0]) is not None

    def __bool__(self) -> bool:
        return self._found

    def __getattr__(self, name: str):
        value = getattr(importlib.import_module(self._name), name)
        setattr(self, name, value)  # so that code that is timed does not come here again
        return value
