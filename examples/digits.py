"""Learn handwritten digits, test on digits never seen, and look at the ones misread.

The 1797 digits of 8 x 8 pixels come with scikit-learn: nothing is downloaded.
Run: python examples/digits.py
"""

import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastbp

SHADES = " .:-=+*#%@"


def draw(image):
    """Draw an image of values in [0, 1] as lines of text."""
    shade = np.minimum((image * len(SHADES)).astype(int), len(SHADES) - 1)
    return ["".join(SHADES[s] * 2 for s in row) for row in shade]


def print_epoch(network, epoch, entry):
    """Print a line, each fifth epoch being enough for the eye."""
    if epoch == 1 or epoch % 5 == 0:
        print(
            f"epoch {epoch:2d}   training loss {entry['loss']:.4f}"
            f"   accuracy {100 * entry['accuracy']:5.1f} %   {1000 * entry['time']:.1f} ms"
        )


def main():
    """Train, test, and draw."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    # A quarter is kept aside, with as many of each digit as there are in the whole.
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=0
    )

    network = fastbp.Network([64, 128, 10], seed=0)
    print(network)
    started = time.perf_counter()
    network.fit(
        x_train,
        y_train,
        epochs=40,
        batch_size=16,
        learning_rate=0.3,
        momentum=0.9,
        callback=print_epoch,
    )
    print(f"trained in {time.perf_counter() - started:.2f} s, compiling or loading included")

    predicted = network.predict(x_test)
    probability = network.predict_proba(x_test)
    print(f"test accuracy: {100 * network.score(x_test, y_test):.2f} % of {len(y_test)} digits")

    misread = np.flatnonzero(predicted != y_test)
    # The most confident mistakes tell the most.
    misread = misread[np.argsort(-probability[misread, predicted[misread]], kind="stable")]
    print(f"misread: {len(misread)}, of which the surest are:")
    for i in misread[:3]:
        true, read = y_test[i], predicted[i]
        print(
            f"\na {true} read as {read}"
            f"   (probability of {read}: {probability[i, read]:.3f},"
            f" of {true}: {probability[i, true]:.3f})"
        )
        print("\n".join(draw(x_test[i].reshape(8, 8))))


if __name__ == "__main__":
    main()
