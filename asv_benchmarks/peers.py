"""fastbp against other libraries, in one process: `python asv_benchmarks/peers.py [FAMILY ...]`.

The candidates of a comparison are first proved to give the same results, then timed in turns: every
round times one block of calls of each, so that whatever else the machine does meets them all.
A ratio is the median over the rounds of (time of the peer) / (time of fastbp): above 1, fastbp is
the faster. Peers that are not installed are named and left out.

The families:
    rows        softmax, the cost and its gradient, and their kind, row by row; on one core
    products    the three matrix products of a layer; on one core
    training    training steps of five networks
    prediction  probabilities of one row and of 2000; on one core
    mnist       ten epochs on MNIST, with the accuracy; needs the data
    estimator   whole fits of MLPClassifier beside scikit-learn's
    sparse      epochs and predictions of sparse rows beside scikit-learn's
"""

import argparse
import dataclasses
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# with the cores that each is about
FAMILIES = {
    "rows": (1,),
    "products": (1,),
    "training": (1, 2),
    "prediction": (1,),
    "mnist": (1, 2),
    "estimator": (1, 2),
    "sparse": (1, 2),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", nargs="*", default=list(FAMILIES), help="all by default")
    parser.add_argument(
        "--cores",
        choices=("1", "2", "both"),
        default="1",
        help="cores that the process may use; both: one run of each, and a table of both",
    )
    parser.add_argument(
        "--rounds", type=int, help="of timing; each family has its own default, mnist one an epoch"
    )
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="of one core, count only the time that this process has it: for a busy machine",
    )
    parser.add_argument("--sizes", metavar="ID,ID", help="train these only, such as XS,S")
    parser.add_argument("--compile", action="store_true", help="train with torch.compile, too")
    parser.add_argument(
        "--data",
        metavar="DIR",
        default=os.environ.get("FASTBP_MNIST"),
        help="the folder of the MNIST files (default: FASTBP_MNIST)",
    )
    parser.add_argument("--results", help=argparse.SUPPRESS)  # where a run tells both its medians
    parser.add_argument("--strict", action="store_true", help="fail where a goal is not met")
    options = parser.parse_args()
    if unknown := set(options.family) - set(FAMILIES):
        parser.error(f"no such family: {', '.join(sorted(unknown))}")
    if options.cpu_time and options.cores != "1":
        parser.error("--cpu-time is for one core: the time of several would be added up")
    options.sizes = options.sizes.split(",") if options.sizes else None
    return options


def keep_to(n_cores: int) -> None:
    """Keep this process on so many cores.

    Before the libraries are imported: some of them count the cores only then. Thread settings
    alone would not keep every library on one core.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if not hasattr(os, "sched_setaffinity"):
        print("cores not pinned: no such call here")
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-n_cores:])


def run(options: argparse.Namespace) -> bool:
    """Print the tables of the families; return whether every goal was met."""
    options.cores = int(options.cores)
    keep_to(options.cores)
    machine = importlib.import_module("comparison.machine")
    machine.set_threads(options.cores)
    print(machine.versions())
    if options.cpu_time:
        importlib.import_module("comparison.timing").clock = time.process_time
    processor = f"{machine.description()}{', CPU time' if options.cpu_time else ''}"
    results = []
    for name in options.family:
        print(f"\n## {name}\n\n{processor}\n")
        if options.cores in FAMILIES[name]:
            results += importlib.import_module(f"comparison.{name}").report(options)
        else:
            print("left out: it is about one core")
    if options.results:
        found = [dataclasses.asdict(result) for result in results]
        Path(options.results).write_text(json.dumps({"processor": processor, "results": found}))
    return all(result.met is not False for result in results)


def run_both(options: argparse.Namespace) -> bool:
    """Run this script on one core, then on two; then let every setting of the peers compete."""
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for cores in (1, 2):
            path = Path(folder, f"{cores}.json")
            # Of an option given twice, the last counts.
            command = [*sys.argv, "--cores", str(cores), "--results", str(path)]
            status = subprocess.run([sys.executable, *command]).returncode
            if not path.exists():
                sys.exit(status)
            runs[cores] = json.loads(path.read_text())
            print()
    results = [run["results"] for run in runs.values()]
    all_met = all(result["met"] is not False for run in results for result in run)
    if "training" in options.family:
        print("## training on two cores, the peers on one core or two\n")
        print(f"{runs[2]['processor']}\n")
        all_met &= print_best_of_both(*results)
    return all_met


def print_best_of_both(one_core: list[dict], two_cores: list[dict]) -> bool:
    """Compare fastbp on two cores with the fastest peer on one core or two: medians of two runs."""
    print("| id | fastbp us a step | fastest peer | us a step | / fastbp | goal | met |")
    print("|" + "---|" * 7)
    one_core_seconds = {r["title"]: r["seconds"] for r in one_core if r["family"] == "training"}
    all_met = True
    for result in (r for r in two_cores if r["family"] == "training"):
        settings = {"one core": one_core_seconds[result["title"]], "two cores": result["seconds"]}
        peers = {
            f"{peer}, {cores}": seconds
            for cores, times in settings.items()
            for peer, seconds in times.items()
            if peer != "fastbp"
        }
        if not peers:
            continue
        ours = result["seconds"]["fastbp"]
        fastest = min(peers, key=peers.__getitem__)
        is_met = peers[fastest] >= result["goal"] * ours
        all_met &= is_met
        print(
            f"| {result['title']} | {1e6 * ours:.1f} | {fastest} | {1e6 * peers[fastest]:.1f} "
            f"| {peers[fastest] / ours:.2f} | {result['goal']} | {'yes' if is_met else 'no'} |"
        )
    return all_met


def main() -> None:
    options = parse()
    all_met = run_both(options) if options.cores == "both" else run(options)
    if options.strict and not all_met:
        sys.exit(1)


if __name__ == "__main__":
    main()
