"""Draw how a network learnt the digits, what its units look at, and which digits it misreads.

Needs matplotlib: pip install 'fastbp[examples,plot]'
Run: python examples/pictures.py [FOLDER]
"""

import sys
from pathlib import Path

import matplotlib
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastbp
from fastbp.display import SamplesDisplay, TrainingCurveDisplay, WeightsDisplay

matplotlib.use("Agg")  # to files, without a screen


def main(folder):
    """Train, and write three pictures to a folder."""
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        images / 16, labels, test_size=0.25, stratify=labels, random_state=0
    )
    network = fastbp.Network([64, 32, 10], seed=0)
    history = network.fit(
        *(x_train, y_train), epochs=40, learning_rate=0.3, validation_data=(x_test, y_test)
    )
    print(history)

    curve = TrainingCurveDisplay.from_history(history)
    print(f"best epoch: {curve.best_epoch_}")
    weights = WeightsDisplay.from_network(network, (8, 8))
    samples = SamplesDisplay.from_network(network, x_test, y_test, (8, 8))
    print(f"test accuracy: {100 * network.score(x_test, y_test):.2f} % of {len(y_test)} digits")
    for name, display in (("curve", curve), ("weights", weights), ("misread", samples)):
        path = Path(folder, f"{name}.png")
        display.figure_.savefig(path)
        print(f"wrote {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else ".")
