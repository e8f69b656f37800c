"""Ask whether the tests notice faults: mutants of the kernels and of the training step.

    python tests/mutants.py --number 200 --seed 0

cosmic-ray changes one place in a copy of the checkout: an operator, a comparison, a number, a
condition. The tests of kernels and step then run as plain Python, those of the changed file first.
Prints each mutant that no test notices, and the share of noticed ones.
"""

import argparse
import os
import random
import re
import shutil
import sys
import tempfile
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).parent.parent
MUTATED = ("fastbp/kernels", "fastbp/backprop")
# Quick ones first; of a file without tests of its own, those of its users
TESTS = (
    "layout parallel passes update activation dense step softmax elementary cross_entropy".split()
)
USERS = {
    **dict.fromkeys(("_matmul", "_gradient"), "dense"),
    **dict.fromkeys(("_rows", "_row_groups"), "softmax"),
    **dict.fromkeys(("state", "tasks", "totals", "_sparse"), "step"),
    "targets": "cross_entropy",
}
# Without a compiler a decorator changes nothing; floats have neither bits nor, here, remainders:
# such mutants say nothing about the tests.
LEFT_OUT = ("RemoveDecorator", "Shift", "Bit", "Mod", "Pow", "Invert")


def has_effect(mutation):
    """Tell whether a result can depend on the place that changes.

    None depends on what is prefetched, on the value in the unused lanes of a masked load, or on the
    sizes of blocks and of scratch memory, which stand at the head of a file.
    """
    line, column = mutation.start_pos
    text = mutation.module_path.read_text().splitlines()[line - 1]
    return not (
        "prefetch" in f"{mutation.definition_name} {text}"
        or re.match("[A-Z_]+ = ", text)
        or ("load_masked(" in text[:column] and re.match(r"(0\.0|-?math\.inf)\)", text[column:]))
    )


def sample(number, seed):
    """Choose ``number`` places at random, and one of cosmic-ray's mutations for each."""
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import use_db

    os.chdir(ROOT)
    files = sorted(file for folder in MUTATED for file in (ROOT / folder).glob("*.py"))
    with tempfile.TemporaryDirectory() as folder, use_db(f"{folder}/mutants") as work:
        init([file.relative_to(ROOT) for file in files], work, {})
        mutations = [mutation for item in work.work_items for mutation in item.mutations]
    places = {}
    for mutation in sorted(mutations, key=lambda m: (m.operator_name, m.occurrence)):
        if not any(word in mutation.operator_name for word in LEFT_OUT) and has_effect(mutation):
            places.setdefault((str(mutation.module_path), mutation.start_pos), []).append(mutation)
    generator = random.Random(seed)
    chosen = generator.sample(sorted(places), min(number, len(places)))
    return [generator.choice(places[place]) for place in chosen]


def enter_copy(folder):
    """Let this process work in a copy of the checkout of its own."""
    copy = Path(folder) / str(os.getpid())
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    os.chdir(copy)
    os.environ |= {"NUMBA_DISABLE_JIT": "1"}


def run(mutation, timeout):
    """Run the tests on one mutant; return its result."""
    from cosmic_ray.mutating import mutate_and_test

    stem = mutation.module_path.stem
    names = sorted(TESTS, key=lambda name: name != USERS.get(stem, stem))
    files = " ".join(f"tests/test_{name}.py" for name in names)
    command = f"{sys.executable} -m pytest -q -x -p no:cacheprovider {files}"
    return mutate_and_test([mutation], command, timeout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--timeout", type=float, default=600, help="seconds for a mutant's tests")
    options = parser.parse_args()
    mutants = sample(options.number, options.seed)
    killed = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(options.jobs, initializer=enter_copy, initargs=(folder,)) as pool,
    ):
        results = [pool.submit(run, mutant, options.timeout) for mutant in mutants]
        for result in map(Future.result, as_completed(results)):
            killed += result.is_killed
            if not result.is_killed:
                print(result.diff, flush=True)
    print(f"{killed} of {len(mutants)} mutants killed ({killed / len(mutants):.1%})")


if __name__ == "__main__":
    main()
