"""Kills and interrupts by the hundred: what takes too long for every run of the tests.

    python tests/endurance.py kill-steps     a run of 200 steps, killed after each of them
    python tests/endurance.py kills          200 kills at random moments
    python tests/endurance.py interrupts     200 times Ctrl-C at random moments, for some sizes each

Each says what it found and ends with status 1 if a result differs by a bit from that of a run which
was left alone, if anything is left behind, or if Ctrl-C waits for more than a tenth of a second (99
of 100 times), the time that a step takes on average not counted.
"""

import argparse
import contextlib
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time

import children
import numpy as np
import pytest
import trainings

from fastbp import Network

SLOWEST = 0.1


def train(path, data, n_threads=None):
    """200 steps, from where the checkpoint says."""
    net = Network([6, 4, 3])
    arguments = {"epochs": 25, "batch_size": 8, "checkpoint_every": 7, "n_threads": n_threads}
    history = net.fit(*data, **arguments, checkpoint=path, resume=True)
    return trainings.digest(net), history.loss


def kill_steps(path, steps=range(1, 201)):
    """Kill a run after each of ``steps``, and have another process end it; return the kills."""
    data = trainings.small_data()
    expected = train(path, data)
    os.unlink(path)
    for n_steps in steps:

        def work(n_steps=n_steps):
            trainings.after_steps(pytest.MonkeyPatch(), n_steps, children.die)
            train(path, data)

        assert children.run(work) == signal.SIGKILL
        assert children.run(lambda n=1 + n_steps % 2: train(path, data, n)) == expected
        names = os.listdir(os.path.dirname(path))  # temporary files are removed one hour later
        assert [n for n in names if not n.endswith(".tmp")] == [os.path.basename(path)]
        os.unlink(path)
    return len(steps)


def kills(path, n=200, seed=0):
    """Kill runs at random moments, begin them again, until they get through; return the kills."""
    data = trainings.small_data()
    expected = train(path, data)
    os.unlink(path)
    rng = random.Random(seed)
    n_kills = n_ends = 0
    while n_kills < n:
        result = children.kill_after(lambda: train(path, data), rng.uniform(0, 0.2))
        if result == signal.SIGKILL:
            n_kills += 1
            continue
        assert result == expected
        names = os.listdir(os.path.dirname(path))  # temporary files are removed one hour later
        assert [n for n in names if not n.endswith(".tmp")] == [os.path.basename(path)]
        n_ends += 1
        os.unlink(path)
    assert children.run(lambda: train(path, data)) == expected
    print(f"{n_kills} kills, {n_ends} runs that got through")
    return n_kills


# Ctrl-C: layers, rows, rows of a batch, epochs
SIZES = {
    "784-30-10, batches of 10": ([784, 30, 10], 5000, 10, 8),
    "64-100-10, batches of 200": ([64, 100, 10], 20000, 200, 20),
    "784-512-512-10, batches of 128": ([784, 512, 512, 10], 4000, 128, 3),
    "784-100-10, all 20000 rows": ([784, 100, 10], 20000, 20000, 3),
    "784-2048-2048-10, batches of 512": ([784, 2048, 2048, 10], 2048, 512, 1),
}


def interrupts(name, path, n=200, seed=0, dtype="float32", n_threads=None, saves=False):
    """Interrupt a run at random moments, go on with it each time.

    Return the waits in seconds, and what a step takes.
    """
    layers, n_rows, batch_size, epochs = SIZES[name]
    rng = np.random.default_rng(seed)
    X = rng.random((n_rows, layers[0]), np.float32).astype(dtype)
    y = rng.integers(0, layers[-1], n_rows)
    arguments = {"epochs": epochs, "batch_size": batch_size, "n_threads": n_threads}

    def fit(network, **more):
        network.fit(X, y, **arguments, **more)

    net = Network(layers, dtype=dtype)
    fit(net)  # compiles, too
    began = time.perf_counter()
    net = Network(layers, dtype=dtype)
    fit(net)
    length = time.perf_counter() - began
    expected, n_alive = trainings.digest(net), threading.active_count()

    waits, sent = [], []
    while len(waits) < n:
        network = Network(layers, dtype=dtype)
        more = {"checkpoint": path, "checkpoint_every": 10**9, "resume": True} if saves else {}
        timer = threading.Timer(rng.uniform(0, length), lambda: interrupt_now(sent))
        sent.clear()
        timer.start()
        try:
            try:
                fit(network, **more)
            finally:
                stopped = time.perf_counter()
                timer.cancel()
                timer.join()  # a late one comes here, at the latest
        except KeyboardInterrupt:
            if stopped > sent[0]:
                waits.append(stopped - sent[0])
            if not saves:
                check_last_step(network, fit, layers, dtype, rng)
        else:
            assert trainings.digest(network) == expected
            if saves:
                os.unlink(path)
        assert threading.active_count() == n_alive
    if saves:
        fit(network := Network(layers, dtype=dtype), checkpoint=path, resume=True)
        assert trainings.digest(network) == expected
        os.unlink(path)
    return waits, length / (epochs * -(-n_rows // batch_size))


def interrupt_now(sent):
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)


def check_last_step(network, fit, layers, dtype, rng):
    """Now and then, see that the parameters are those after the step that is the last."""
    assert np.isfinite(network.parameters).all()
    if rng.random() < 0.9:
        return
    n_steps = int(network._learner.optimizer_state.n_updates[0])
    other = Network(layers, dtype=dtype)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        trainings.after_steps(patch, n_steps, trainings.interrupt)
        patch.setattr("fastbp.training.cpus.default_threads", lambda: 1)
        if n_steps > 0:
            fit(other)
    found, expected = trainings.digest(network), trainings.digest(other)
    assert found == expected, f"not the parameters after step {n_steps}"


def percentile(waits, share):
    return sorted(waits)[min(len(waits) - 1, int(share * len(waits)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["kill-steps", "kills", "interrupts"])
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.safetensors")
        if options.command == "kill-steps":
            print(f"{kill_steps(path)} kills, each run ended as if it had not been killed")
            return
        if options.command == "kills":
            kills(path, options.n, options.seed)
            return
        is_slow = False
        for name in SIZES:
            for dtype in ("float32", "float64"):
                for saves in (False, True):
                    arguments = (name, path, options.n, options.seed, dtype, options.threads, saves)
                    waits, step = interrupts(*arguments)
                    slow = percentile(waits, 0.99)
                    is_slow |= slow > SLOWEST + step
                    print(
                        f"{name}, {dtype}, {'with' if saves else 'no'} checkpoint: {len(waits)} "
                        f"interrupts, median {1000 * statistics.median(waits):.0f} ms, "
                        f"99 % {1000 * slow:.0f} ms, longest {1000 * max(waits):.0f} ms, "
                        f"a step {1000 * step:.0f} ms",
                        flush=True,
                    )
        if is_slow:
            sys.exit(1)


if __name__ == "__main__":
    main()
