"""Draw how a network learnt the digits, what its units look at, and which digits it misreads.

Needs matplotlib: pip install 'fastbp[all]'
Run: python examples/pictures.py [FILE]
"""

import sys

import matplotlib
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastbp
from fastbp.display import SamplesDisplay, TrainingCurveDisplay, WeightsDisplay

matplotlib.use("Agg")  # to a file, without a screen


def main(path):
    """Train, and draw three displays into one figure."""
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        images / 16, labels, test_size=0.25, stratify=labels, random_state=0
    )
    network = fastbp.Network([64, 32, 10], seed=0)
    history = network.fit(
        *(x_train, y_train), epochs=40, learning_rate=0.3, validation_data=(x_test, y_test)
    )
    print(history)
    print(f"test accuracy: {100 * network.score(x_test, y_test):.2f} % of {len(y_test)} digits")

    figure = plt.figure(figsize=(10, 7.5), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(2, 3))
    left, right = below.subfigures(1, 2)
    curve = TrainingCurveDisplay.from_history(history, ax=above.subplots(1, 2))
    WeightsDisplay.from_network(network, (8, 8), ax=left.subplots(3, 4))
    SamplesDisplay.from_network(network, x_test, y_test, (8, 8), ax=right.subplots(3, 4))
    above.suptitle(f"Learning to read digits: the best epoch is {curve.best_epoch_}")
    left.suptitle("What the units of the first layer look at")
    right.suptitle("What is misread, the surest mistakes first")
    figure.savefig(path, dpi=80)
    print(f"wrote {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "digits.png")
