"""Learn from a file that may outgrow memory: blocks in random order, read while the network learns.

Needs scikit-learn: pip install 'fastbp[sklearn]'
Run: python examples/from_disk.py
"""

import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastbp

N_ROWS, BUFFER_ROWS = 60_000, 8192


def write(folder, images, labels):
    """Write many noisy copies of the images, as bytes and sorted by label: the worst order."""
    rng = np.random.default_rng(0)
    numbers = np.sort(rng.integers(0, len(images), N_ROWS))
    numbers = numbers[np.argsort(labels[numbers], kind="stable")]
    pixels = 15 * images[numbers] + rng.integers(0, 16, (N_ROWS, images.shape[1]))
    np.save(folder / "pixels.npy", pixels.astype(np.uint8))
    np.save(folder / "labels.npy", labels[numbers])


def main():
    """Train a network and a classifier from the same file, and test on other digits."""
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=0
    )
    x_test = x_test * 15 / 255
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, x_train, y_train)

        rows = fastbp.open_rows(folder / "pixels.npy", folder / "labels.npy", scale=1 / 255)
        print(f"{len(rows)} rows of {rows.n_features} {rows.dtype}, {BUFFER_ROWS} in a buffer")
        network = fastbp.Network([64, 32, 10], seed=0)
        history = network.fit(rows, epochs=5, learning_rate=0.1, buffer_rows=BUFFER_ROWS)
        print(history)
        accuracy = 100 * network.score(x_test, y_test)
        print(f"test accuracy: {accuracy:.2f} % of {len(y_test)} digits")

        # With scikit-learn's interface, a loop over parts of the file that are mixed by hand.
        pixels, answers = (
            np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("pixels", "labels")
        )
        classifier = fastbp.MLPClassifier((32,), learning_rate_init=0.01, random_state=0)
        for first in range(20):
            part = slice(first, None, 20)  # every 20th row: some of each label
            x = np.float32(pixels[part]) / 255
            classifier.partial_fit(x, answers[part], classes=np.arange(10))
        accuracy = 100 * classifier.score(np.float32(x_test), y_test)
        print(f"the classifier's, after 20 parts: {accuracy:.2f} %")


if __name__ == "__main__":
    main()
