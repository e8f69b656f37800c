"""MNIST: ten epochs of the network 784-100-10 in mini-batches of 32; accuracy and time."""

import dataclasses
import runpy
from pathlib import Path

import numpy as np

import fastbp
from comparison import reference
from comparison.timing import MET, Result, met, print_head, print_line, take_turns
from comparison.trainers import Problem, trainers

EPOCHS = 10
ACCURACY_GOAL = 0.975
SPEED_GOAL = 5.0  # each peer / fastbp
NAMES = ("fastbp", "torch", "scikit-learn")


def report(options) -> list[Result]:
    if not options.data:
        print("left out: it needs --data DIR or the environment variable FASTBP_MNIST")
        return []
    # The example reads the files, and is no module that could be imported.
    example = Path(__file__).parents[2] / "examples" / "mnist.py"
    (x, y), (x_test, y_test) = runpy.run_path(str(example))["read_folder"](options.data)
    x, x_test = x.astype(np.float32) / 255, x_test.astype(np.float32) / 255

    network = fastbp.Network([784, 100, 10], seed=0)
    parameters = list(zip(network.weights, network.biases, strict=True))
    n_threads = 1 if options.cores == 1 else None
    problem = Problem(x, y.astype(np.intp), parameters, 32, learning_rate=0.05, momentum=0.9)
    few = dataclasses.replace(problem, x=x[:320], labels=problem.labels[:320])
    for trainer in trainers(NAMES, few, n_threads).values():
        trainer.train(1)  # compile, warm up

    candidates = trainers(NAMES, problem, n_threads)
    blocks = {name: trainer.train for name, trainer in candidates.items()}
    timing = take_turns(blocks, dict.fromkeys(blocks, 1), EPOCHS)
    seconds = {name: sum(times) for name, times in timing.seconds.items()}
    print_head("", "test accuracy, %", f"s for {EPOCHS} epochs", "/ fastbp")
    accuracy = {}
    for name, trainer in candidates.items():
        _, log_a = reference.forward(trainer.parameters(), x_test)
        accuracy[name] = np.mean(log_a.argmax(axis=1) == y_test)
        print_line(
            name,
            f"{100 * accuracy[name]:.2f}",
            f"{seconds[name]:.2f}",
            f"{seconds[name] / seconds['fastbp']:.2f}",
        )
    accurate = bool(accuracy["fastbp"] >= ACCURACY_GOAL)
    fast = met([seconds[name] / seconds["fastbp"] for name in timing.peers()], SPEED_GOAL)
    print(f"\naccuracy of fastbp at least {100 * ACCURACY_GOAL:g} %: {MET[accurate]}")
    print(f"each peer takes at least {SPEED_GOAL:g} times as long: {MET[fast]}")
    title = f"{EPOCHS} epochs"
    return [Result("mnist", title, SPEED_GOAL, accurate and fast is not False, seconds)]
