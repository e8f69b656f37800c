"""Draw the decision regions of a two-dimensional problem, before and after training.

scikit-learn's own displays take a fastbp.MLPClassifier: these are two of them.
Needs matplotlib: pip install 'fastbp[all]'
Run: python examples/decision_regions.py [FILE]
"""

import sys

import matplotlib
import matplotlib.pyplot as plt
from sklearn.datasets import make_moons
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split

import fastbp

matplotlib.use("Agg")  # to a file, without a screen


def main(path):
    """Train, and draw three pictures into one file."""
    points, moon = make_moons(600, noise=0.2, random_state=0)
    x_train, x_test, y_train, y_test = train_test_split(points, moon, random_state=0)
    classifier = fastbp.MLPClassifier((16, 16), learning_rate_init=0.01, random_state=0)
    # Before: one epoch of steps too small to see shows the first weights.
    before = fastbp.MLPClassifier((16, 16), learning_rate_init=1e-9, random_state=0)
    before.partial_fit(x_train, y_train, classes=[0, 1])
    classifier.fit(x_train, y_train)

    figure, axes = plt.subplots(ncols=3, figsize=(12, 3.8), layout="constrained")
    for ax, fitted, when in ((axes[0], before, "Before"), (axes[1], classifier, "After")):
        DecisionBoundaryDisplay.from_estimator(
            *(fitted, points),
            response_method="predict_proba",
            class_of_interest=1,
            ax=ax,
            cmap="RdBu",
            vmin=0,
            vmax=1,
            alpha=0.6,
        )
        ax.scatter(*x_test.T, c=y_test, cmap="RdBu", edgecolors="white", s=25)
        accuracy = 100 * fitted.score(x_test, y_test)
        ax.set_title(f"{when} training: {accuracy:.1f} % right")
        print(f"{when.lower()} training: {accuracy:.1f} % of {len(y_test)} points")
    ConfusionMatrixDisplay.from_estimator(classifier, x_test, y_test, ax=axes[2], colorbar=False)
    figure.savefig(path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "decision_regions.png")
