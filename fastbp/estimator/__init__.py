"""MLPClassifier: scikit-learn's interface to the same kernels."""

from fastbp.estimator.classifier import MLPClassifier

__all__ = ["MLPClassifier"]
