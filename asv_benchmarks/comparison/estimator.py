"""MLPClassifier against scikit-learn's: whole fits on digits, letters-size data and MNIST.

One hidden layer of 100 units, batches of 200, the same random_state: both make the same steps, and
end at the same coefficients but for rounding.
"""

import runpy
import warnings
from pathlib import Path

import numpy as np

from comparison.timing import (
    MET,
    OptionalModule,
    Result,
    met,
    print_head,
    print_line,
    take_turns,
)

datasets = OptionalModule("sklearn.datasets")
neural_network = OptionalModule("sklearn.neural_network")

HEAD = (
    *("data", "dtype", "activation", "solver", "fastbp ms an epoch", "scikit-learn / fastbp"),
    "met",
)
GOAL = 5.0  # scikit-learn / fastbp
ROUNDS = 7
# Long enough that threads of the other library, which wait in a loop for work that does not come,
# have given up for most of the time.
EPOCHS = {"digits": 100, "letters": 8, "mnist": 1}
# After more of them, what is rounded differently in float32 has grown.
EPOCHS_OF_PROOF = 20
SETTINGS = (
    {"activation": "logistic", "solver": "adam"},
    {"activation": "relu", "solver": "adam"},
    {"activation": "logistic", "solver": "sgd"},
)
# Largest difference of coefficients: rounding, and what Adam makes of it where a gradient is nearly
# zero.
TOLERANCE = {"float64": 1e-9, "float32": 2e-3}


def report(options) -> list[Result]:
    if not neural_network:
        print("left out: scikit-learn is not installed")
        return []
    results = []
    print_head(*HEAD)
    for name, (x, y) in problems(options.data).items():
        for dtype in ("float64", "float32"):
            for setting in SETTINGS:
                results.append(compare(name, x.astype(dtype), y, setting, options))
    print(f"\ngoal: {GOAL:g}")
    if not options.data:
        print("mnist left out: it needs --data DIR or the environment variable FASTBP_MNIST")
    return results


def problems(folder: str | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rows and labels, by name; of the letters, only the size is that of the real ones."""
    x, y = datasets.load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    found = {
        "digits": (x / 16, y),
        "letters": (rng.normal(size=(20000, 16)), rng.permutation(20000) % 26),
    }
    if folder:
        example = Path(__file__).parents[2] / "examples" / "mnist.py"
        (x, y), _ = runpy.run_path(str(example))["read_folder"](folder)
        found["mnist"] = (x / 255, y)
    return found


def compare(name: str, x: np.ndarray, y: np.ndarray, setting: dict, options) -> Result:
    import fastbp

    common = {
        **setting,
        "learning_rate_init": 0.001,
        "max_iter": EPOCHS[name],
        "tol": 0.0,
        "random_state": 0,
    }
    n_threads = 1 if options.cores == 1 else None
    models = {
        "fastbp": fastbp.MLPClassifier(n_threads=n_threads, **common),
        "sklearn": neural_network.MLPClassifier(**common),
    }

    def fits(model):
        def block(n_calls: int) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that so few epochs do not converge
                for _ in range(n_calls):
                    model.fit(x, y)

        return block

    blocks = {library: fits(model) for library, model in models.items()}
    for library, model in models.items():
        model.set_params(max_iter=min(EPOCHS_OF_PROOF, EPOCHS[name]))
        blocks[library](1)
    prove_equal(models, f"{name} {x.dtype} {setting}")
    for model in models.values():
        model.set_params(max_iter=EPOCHS[name])
    rounds = options.rounds or ROUNDS
    timing = take_turns(blocks, dict.fromkeys(blocks, 1), rounds)
    ratio = timing.ratio("sklearn")
    is_met = met([ratio], GOAL)
    print_line(
        *(name, str(x.dtype), setting["activation"], setting["solver"]),
        *(f"{1e3 * timing.median('fastbp') / EPOCHS[name]:.2f}", f"{ratio:.2f}", MET[is_met]),
    )
    title = f"{name}, {x.dtype}, {setting['activation']}, {setting['solver']}"
    return Result("estimator", title, GOAL, is_met, timing.medians())


def prove_equal(models: dict, what: str) -> None:
    ours, theirs = (models[library] for library in ("fastbp", "sklearn"))
    for w, expected in zip(ours.coefs_, theirs.coefs_, strict=True):
        tolerance = TOLERANCE[str(w.dtype)]
        np.testing.assert_allclose(w, expected, 0, tolerance, err_msg=what)
