"""The processes that train one network: what they agree on, and how a fault of one ends all."""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastbp._checks.scalars import as_real
from fastbp._files.checkpoint import DATA, Checkpoint, Snapshot
from fastbp.backprop import state
from fastbp.distributed.link import DistributedError, Link
from fastbp.distributed.mpi import Mpi
from fastbp.training import cpus, predict, random

Thing = TypeVar("Thing")

# Status of a process that has waited for too long
STATUS = 75


class Group:
    """The processes of a training: one that is alone, or those of a link.

    Parameters
    ----------
    link : Link or None
    timeout : float
        Seconds to wait for another process.

    Attributes
    ----------
    rank, size : int
    epoch : int
    where : str
        What the process is about to do, for messages.
    interrupt : BaseException or None
        Ctrl-C, since the session began: it takes effect where all processes can agree on it.
    """

    def __init__(self, link: Link | None, timeout: float) -> None:
        self.link, self._timeout = link, timeout
        self.rank, self.size = (0, 1) if link is None else (link.rank, link.size)
        self.epoch, self.where = 0, "the start"
        self.interrupt: BaseException | None = None
        self._has_failed = False
        self._waits_since: float | None = None
        if hasattr(link, "timeout"):
            link.timeout = timeout  # type: ignore[union-attr]

    @contextmanager
    def session(self, shards: int) -> Iterator[None]:
        """Until a training has ended, watch the waits; where steps are shared, hold Ctrl-C back."""
        is_shared = self.size > 1 or shards > 1
        ended = threading.Event()
        if self.size > 1 and not hasattr(self.link, "timeout"):
            threading.Thread(target=self._watch, args=(ended,), daemon=True).start()
        try:
            with _held_interrupts(self) if is_shared else nullcontext():
                yield
        finally:
            ended.set()
            # To free a communicator is a matter of all ranks.
            if isinstance(self.link, Mpi) and not self._has_failed:
                self.link.close()
        if self.interrupt is not None:  # it came after the last agreement
            raise self.interrupt

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(min(self._timeout / 20, 1.0)):
            since = self._waits_since
            if since is not None and time.monotonic() - since > self._timeout:
                print(
                    f"fastbp: rank {self.rank} of {self.size} on {platform.node()}: another rank "
                    f"did not answer for {self._timeout:g} s in {self.where}: it is stopped or "
                    "unreachable; this job ends",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(STATUS)

    @contextmanager
    def waiting(self) -> Iterator[Link]:
        """Give the link, to wait for others with."""
        assert self.link is not None
        self._waits_since = time.monotonic()
        try:
            yield self.link
        except BaseException:
            self._has_failed = True
            raise
        finally:
            self._waits_since = None

    def agree(self, error: BaseException | None, thing: Thing) -> list[Thing]:
        """Return the things of all ranks; if one has an error, end on all of them.

        That rank raises its error, the others a `DistributedError`; all raise KeyboardInterrupt.
        """
        if error is None:
            error = self.interrupt
        if self.size == 1 or self._has_failed:
            if error is not None:
                raise error
            return [thing]
        cause = None
        if error is not None:
            cause = f"{type(error).__name__}: {error}", isinstance(error, KeyboardInterrupt)
        with self.waiting() as link:
            answers = link.gather((cause, thing))
        failed = {rank: cause for rank, (cause, _) in enumerate(answers) if cause is not None}
        if not failed:
            return [thing for _, thing in answers]
        self._has_failed, self.interrupt = True, None
        if error is not None:
            raise error
        if any(is_interrupt for _, is_interrupt in failed.values()):
            raise KeyboardInterrupt
        rank, (what, _) = next(iter(failed.items()))
        raise DistributedError(f"rank {rank} of {self.size} failed: {what.rstrip(': ')}", rank)

    def call(self, work: Callable[[], Thing], only_first: bool = False) -> list[Thing | None]:
        """Do some work on each rank, or on the first one; return what it gave on all ranks."""
        error, thing = None, None
        try:
            if self.rank == 0 or not only_first:
                thing = work()
        except BaseException as failure:
            error = failure
        return self.agree(error, thing)

    @contextmanager
    def agreement(self) -> Iterator[None]:
        """Have all ranks go on after some work, or none: see `agree`."""
        error = None
        try:
            yield
        except BaseException as failure:
            error = failure
        self.agree(error, None)

    def compare(self, facts: Mapping[str, Any]) -> None:
        """Refuse arguments, data and networks that differ between the ranks."""
        every = self.agree(None, dict(facts))
        for name, first in every[0].items():
            for rank, others in enumerate(every):
                if others[name] != first:
                    values = f", got {first} on rank 0 and {others[name]} on rank {rank}"
                    if name in DATA:
                        values = f": that of rank {rank} is not that of rank 0"
                    raise ValueError(f"ranks must be given the same {name}{values}")

    def n_threads(self, n_threads: int | None) -> int | None:
        """Return the threads of this rank; by default, ranks share the processors they may use."""
        if n_threads is not None or self.size == 1:
            return n_threads
        mine = platform.node(), cpus.allowed()
        every = self.agree(None, mine)
        sharing = sum(node == mine[0] and bool(allowed & mine[1]) for node, allowed in every)
        return cpus.default_threads(sharing)

    def begin_epoch(
        self,
        options: state.StepOptions,
        seed: int | None,
        number: int,
        order: npt.NDArray[np.intp],
    ) -> state.StepOptions:
        """Shuffle the rows, unless there is no seed; the options are those of every epoch."""
        self.epoch = number
        if seed is not None:
            random.shuffle(seed, number, order)
        return options

    def measures(
        self, predictor: predict.Predictor, data: state.Data | None, n_threads: int | None
    ) -> dict[str, float]:
        """Return loss and accuracy of validation data, of which each rank predicts a part."""
        if data is None:
            return {}
        n = state.n_rows(data)
        part = predict.part_of(data, n * self.rank // self.size, n * (self.rank + 1) // self.size)
        parts = self.call(lambda: predict.rows_of(predictor.logits(part.x, n_threads), part))
        columns = zip(*(part for part in parts if part is not None), strict=True)
        return predict.measures(predict.Measured(*map(np.concatenate, columns)), data)


def as_group(comm: Any, timeout: float) -> Group:
    """Return the group of what `fit` is given."""
    timeout = as_real(timeout, "timeout", 0.0, closed="neither")
    if comm is None:
        return Group(None, timeout)
    if isinstance(comm, Link):
        return Group(comm, timeout)
    if not all(hasattr(comm, name) for name in ("Dup", "Sendrecv", "allgather")):
        raise TypeError(
            "comm must be a communicator of mpi4py or have rank, size, exchange and gather, "
            f"got {comm!r:.80}"
        )
    return Group(Mpi(comm), timeout)


class SharedCheckpoint:
    """The checkpoint of a group, which its first rank writes."""

    def __init__(self, group: Group, checkpoint: Checkpoint) -> None:
        self._group, self._checkpoint = group, checkpoint
        self.next_step, self.is_due = checkpoint.next_step, checkpoint.is_due

    def save(self, snapshot: Snapshot) -> None:
        """Write where a run is."""
        self._group.where = "a checkpoint"
        self._group.call(lambda: self._checkpoint.save(snapshot), only_first=True)


@contextmanager
def _held_interrupts(group: Group) -> Iterator[None]:
    """Note the first Ctrl-C, for the ranks to agree on; the second one takes effect at once."""
    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or before is not signal.default_int_handler:
        yield
        return

    def note(number: int, frame: Any) -> None:
        if group.interrupt is not None:
            raise KeyboardInterrupt
        group.interrupt = KeyboardInterrupt()

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
