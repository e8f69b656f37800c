"""Train a classifier, write it as an ONNX model, and predict with ONNX Runtime.

Needs both: pip install 'fastbp[all]' onnxruntime
Run: python examples/to_onnx.py [FILE]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastbp

NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


def main(path):
    """Train, write, and compare both predictions."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    x_train, x_test, y_train, y_test = train_test_split(
        images, NAMES[labels], test_size=0.25, stratify=labels, random_state=0
    )
    classifier = fastbp.MLPClassifier((32,), learning_rate_init=0.01, random_state=0)
    classifier.fit(x_train, y_train)
    print(f"test accuracy: {100 * classifier.score(x_test, y_test):.2f} % of {len(y_test)} digits")

    onnx.save(fastbp.convert.to_onnx(classifier), path)
    print(f"wrote {Path(path).stat().st_size} bytes")
    session = onnxruntime.InferenceSession(path)
    label, probabilities = session.run(["label", "probabilities"], {"X": x_test})
    print(f"the same labels: {(label == classifier.predict(x_test)).mean():.0%}")
    difference = abs(probabilities - classifier.predict_proba(x_test)).max()
    print(f"largest difference of a probability: {difference:.1e}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(str(Path(folder, "digits.onnx")))
