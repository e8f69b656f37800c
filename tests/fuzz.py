"""Feed fastbp with what it may not expect, for some time.

    python tests/fuzz.py front-door      arguments of every public function and of the models
    python tests/fuzz.py model-files     changed model files

Exit status 1, and the seed that shows the fault again, if something is wrong.
"""

import argparse
import sys
import traceback

import fuzz_front_door
import fuzz_model_files

TARGETS = {"front-door": fuzz_front_door.run, "model-files": fuzz_model_files.run}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    targets = parser.add_subparsers(dest="target", required=True)
    for name in TARGETS:
        target = targets.add_parser(name)
        target.add_argument("--seconds", type=float, default=60.0)
        target.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        n = TARGETS[options.target](options.seconds, options.seed)
    except Exception:
        traceback.print_exc()
        return 1
    print(f"{options.target}: {n} inputs, no fault")
    return 0


if __name__ == "__main__":
    sys.exit(main())
