"""Choose units and penalty by cross-validation, the fits shared out among two processes.

`fastbp.MLPClassifier` is an estimator like scikit-learn's own: here it stands at the end of a
pipeline, so that the scaling is learnt from the training rows of each fold alone. joblib tells its
workers to compute on their share of the processors (in OMP_NUM_THREADS), and fastbp obeys.
Run: python examples/grid_search.py
"""

import time

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import MLPClassifier


def main():
    """Search, look at all candidates, and test the best."""
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=0
    )

    classifier = MLPClassifier(
        learning_rate_init=0.01, batch_size=64, tol=0.01, n_iter_no_change=3, random_state=0
    )
    pipeline = Pipeline([("scale", StandardScaler()), ("classify", classifier)])
    grid = {
        "classify__hidden_layer_sizes": [(), (16,), (64,)],
        "classify__alpha": [0.01, 0.1, 1.0],
    }
    search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2)
    started = time.perf_counter()
    search.fit(x_train, y_train)
    seconds = time.perf_counter() - started

    results = search.cv_results_
    print("hidden units   alpha   accuracy of 3 folds")
    for i in results["rank_test_score"].argsort(kind="stable"):
        units = sum(results["param_classify__hidden_layer_sizes"][i])
        alpha = results["param_classify__alpha"][i]
        mean, spread = results["mean_test_score"][i], results["std_test_score"][i]
        print(f"{units:12}   {alpha:5}   {100 * mean:.2f} % +- {100 * spread:.2f}")
    print(f"{3 * len(results['params'])} fits in {seconds:.1f} s, compiling or loading included")

    print(f"test accuracy: {100 * search.score(x_test, y_test):.2f} % of {len(y_test)} digits")


if __name__ == "__main__":
    main()
