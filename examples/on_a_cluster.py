"""Dask: train on the workers of a cluster, and search over them with scikit-learn.

Needs scikit-learn and Dask: pip install 'fastbp[sklearn,dask]'
Run: python examples/on_a_cluster.py
"""

import joblib
import numpy as np
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp
import fastbp.dask


def search():
    """Make a search over six classifiers."""
    classifier = fastbp.MLPClassifier(random_state=0, tol=0.01, n_iter_no_change=3)
    grid = {
        "mlpclassifier__hidden_layer_sizes": [(16,), (32,)],
        "mlpclassifier__alpha": [1e-4, 1e-2, 1.0],
    }
    return GridSearchCV(make_pipeline(StandardScaler(), classifier), grid, cv=3)


def main():
    """Compare what a cluster of two processes finds with what one process finds."""
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        images / 16, labels, test_size=0.25, stratify=labels, random_state=0
    )
    arguments = {"epochs": 40, "batch_size": 256, "learning_rate": 1.0}
    alone, shared = fastbp.Network([64, 32, 10]), fastbp.Network([64, 32, 10])
    alone.fit(x_train, y_train, **arguments)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        # One training, whose gradients the workers add; n_threads are those of each worker.
        print(fastbp.dask.fit(client, shared, x_train, y_train, n_threads=1, **arguments))
        accuracy = 100 * shared.score(x_test, y_test)
        print(f"test accuracy: {accuracy:.2f} % of {len(y_test)} digits")
        print("same bits as alone:", np.array_equal(shared.parameters, alone.parameters))

        # Many trainings: the search of scikit-learn, whose tasks joblib sends to the workers.
        with joblib.parallel_backend("dask"):
            found = search().fit(x_train, y_train)
        serial = search().fit(x_train, y_train)
        print(f"best of 6: {found.best_params_}, score {found.best_score_:.4f}")
        print("same as the serial search:", found.best_score_ == serial.best_score_)


if __name__ == "__main__":
    main()
