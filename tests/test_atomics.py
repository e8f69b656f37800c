"""Counters that several threads share."""

import os
import time

import numpy as np
import pytest
from together import together

from fastbp import _simd
from fastbp._compile import kernel
from fastbp._simd import flat

# Primitives, made callable from Python


@kernel
def count_often(counters, k, times, seen):
    """Mark what each count finds."""
    for _ in range(times):
        seen[_simd.fetch_add(flat(counters), k)] += 1


@kernel
def count_often_below(counters, k, bound, times, seen):
    """Mark what each count finds, and in the last place that none was made."""
    for _ in range(times):
        seen[_simd.fetch_add_below(flat(counters), k, bound)] += 1


@kernel
def look_at(counters, k):
    return _simd.load_acquire(flat(counters), k)


@kernel
def publish(counters, k, value):
    _simd.store_release(flat(counters), k, value)


@kernel
def wait_for(counters, k, value):
    _simd.wait_for(flat(counters), k, value)


@kernel
def take_turns(counters, mine, other, late, rounds, numbers):
    """Write to all numbers in turn with another thread, which is one step behind or ahead.

    Returns how many were not as the other should have left them.
    """
    stale = 0
    for turn in range(rounds):
        _simd.wait_for(flat(counters), other, turn + late)
        for q in range(numbers.size):
            if numbers[q] != 2 * turn + late:
                stale += 1
            numbers[q] = 2 * turn + late + 1
        _simd.store_release(flat(counters), mine, turn + 1)
    return stale


def test_one_thread():
    counters, seen = np.zeros(3, np.int64), np.zeros(5, np.int64)
    count_often(counters, 1, 4, seen)
    np.testing.assert_array_equal(counters, [0, 4, 0])
    np.testing.assert_array_equal(seen, [1, 1, 1, 1, 0])  # what it was before
    publish(counters, 2, 2**62)
    np.testing.assert_array_equal(counters, [0, 4, 2**62])
    assert [look_at(counters, k) for k in range(3)] == [0, 4, 2**62]
    seen_below = np.zeros(8, np.int64)
    count_often_below(counters, 1, 6, 5, seen_below)
    np.testing.assert_array_equal(counters, [0, 6, 2**62])
    np.testing.assert_array_equal(seen_below, [0, 0, 0, 0, 1, 1, 0, 3])


@pytest.mark.parametrize("value", [-1, 3, 4])
def test_no_need_to_wait(value):
    counters = np.array([0, 4, 9])
    together(lambda: wait_for(counters, 1, value), within=20)
    np.testing.assert_array_equal(counters, [0, 4, 9])


@pytest.mark.compiled
def test_no_count_is_lost_and_none_made_twice():
    counters, times = np.zeros(9, np.int64), 100_000
    seen = [np.zeros(4 * times, np.int64) for _ in range(4)]
    together(*(lambda own=own: count_often(counters, 8, times, own) for own in seen))
    assert counters[8] == 4 * times
    assert not counters[:8].any()
    assert (sum(seen) == 1).all()


@pytest.mark.compiled
def test_no_count_passes_the_bound():
    counters, times, bound = np.zeros(9, np.int64), 100_000, 150_000
    seen = [np.zeros(bound + 2, np.int64) for _ in range(4)]
    together(*(lambda own=own: count_often_below(counters, 8, bound, times, own) for own in seen))
    assert counters[8] == bound
    assert not counters[:8].any()
    assert (sum(seen)[:bound] == 1).all()
    np.testing.assert_array_equal(sum(seen)[bound:], [0, 4 * times - bound])


@pytest.mark.compiled
def test_waits_for_no_less_and_no_more():
    counters, ended = np.zeros(1, np.int64), []

    def wait():
        wait_for(counters, 0, 3)
        ended.append(time.monotonic())

    def count_up():
        for value in (1, 2, 3):
            time.sleep(0.05)
            assert not ended
            publish(counters, 0, value)
        return time.monotonic()

    _, published = together(wait, count_up)
    assert ended[0] < published + 10
    assert ended[0] > published - 0.05


def take_turns_together(rounds, size, begin=lambda: None):
    """What two threads found that take turns, both after a call of ``begin``."""
    counters, numbers = np.zeros(17, np.int64), np.zeros(size)

    def play(mine, other, late):
        begin()
        return take_turns(counters, mine, other, late, rounds, numbers)

    found = together(lambda: play(0, 16, 0), lambda: play(16, 0, 1))
    assert (numbers == 2 * rounds).all()
    assert (counters[0], counters[16]) == (rounds, rounds)
    return found


@pytest.mark.compiled
@pytest.mark.parametrize("size", [1, 1000])
def test_who_waits_sees_what_was_written_before(size):
    assert take_turns_together(3000, size) == [0, 0]


@pytest.mark.compiled
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot choose a processor")
def test_who_waits_lets_others_work():
    """Two threads on one processor: waiting in vain to the end of a time slice takes far longer."""
    processor = {min(os.sched_getaffinity(0))}
    start = time.monotonic()
    # of the calling thread alone, which ends
    assert take_turns_together(3000, 1, lambda: os.sched_setaffinity(0, processor)) == [0, 0]
    assert time.monotonic() - start < 5
