"""Times of fastbp over those of others, measured in turns within one process.

On machines that others use as well these hold where times do not. All are on one core. The results
of the two are proved equal first. An implementation that is not installed is skipped.
"""

import dataclasses
import importlib
import importlib.util
import os

from ._common import DTYPES, PRODUCTS, SIZES, STEPS, numbers, part

FEW_PRODUCTS = ["32 x 784 x 100", "128 x 512 x 512", "512 x 2048 x 2048"]
ROUNDS = 7
BLOCK_SECONDS = 0.01
EPOCH_SECONDS = 0.02
MODULES = {"scikit-learn": "sklearn"}  # where implementation and module differ in name


def comparison(name):
    """A module of the package `comparison`: imported when used, for it imports the peers."""
    return importlib.import_module(f"comparison.{name}")


def pick(candidates, implementation):
    return {name: candidates[name] for name in ("fastbp", implementation)}


class _OnOneCore:
    """A block of fastbp and one of another implementation, in turns."""

    unit = "time of fastbp / time of the other"
    timeout = 300
    version = "1"

    def setup(self, implementation, *parts):
        for name in parts:
            part(name)
        if importlib.util.find_spec(MODULES.get(implementation, implementation)) is None:
            raise NotImplementedError(f"{implementation} is not installed")
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        comparison("machine").set_threads(1)
        self.timing = comparison("timing")

    def ratio(self, blocks, implementation, block_seconds=BLOCK_SECONDS):
        calls = {
            name: self.timing.calls_in_a_block(block, block_seconds)
            for name, block in blocks.items()
        }
        return 1 / self.timing.take_turns(blocks, calls, ROUNDS).ratio(implementation)

    def ratio_of(self, job, implementation):
        """Of a job of `comparison`, its results proved equal first."""
        job.candidates = pick(job.candidates, implementation)
        job.prove_equal()
        repeated = self.timing.repeated
        blocks = {name: repeated(call) for name, call in job.candidates.items()}
        return self.ratio(blocks, implementation)


class Rows(_OnOneCore):
    """The checked functions over rows of logits."""

    params = (["128 x 10", "4096 x 100", "256 x 32000"], ["float32"], [1], ["scipy", "torch"])
    param_names = ("rows x classes", "dtype", "threads", "implementation")

    def setup(self, shape, dtype, n_threads, implementation):
        names = "softmax_cross_entropy", "softmax", "log_softmax", "logsumexp", "cross_entropy"
        super().setup(implementation, *names)
        rows = comparison("rows")
        self.jobs = dict(zip(rows.JOBS, rows.jobs([numbers(shape)]), strict=True))

    def track_cost_and_gradient(self, shape, dtype, n_threads, implementation):
        return self.ratio_of(self.jobs["cost and gradient"], implementation)

    def track_softmax(self, shape, dtype, n_threads, implementation):
        return self.ratio_of(self.jobs["softmax"], implementation)

    def track_log_softmax(self, shape, dtype, n_threads, implementation):
        return self.ratio_of(self.jobs["log_softmax"], implementation)

    def track_logsumexp(self, shape, dtype, n_threads, implementation):
        return self.ratio_of(self.jobs["logsumexp"], implementation)

    def track_cost(self, shape, dtype, n_threads, implementation):
        return self.ratio_of(self.jobs["cost"], implementation)


class Products(_OnOneCore):
    """The checked functions of a layer's products."""

    params = (FEW_PRODUCTS, DTYPES, [1], ["torch"])
    param_names = ("batch x fan_in x fan_out", "dtype", "threads", "implementation")

    def setup(self, shape, dtype, n_threads, implementation):
        super().setup(implementation, "dense", "weight_gradient", "hidden_error")
        jobs = comparison("products").jobs([PRODUCTS[shape]], [dtype])
        self.jobs = {job.name: job for job in jobs}

    def track_forward(self, shape, dtype, n_threads, implementation):
        return self.ratio_of(self.jobs["forward"], implementation)

    def track_weight_gradient(self, shape, dtype, n_threads, implementation):
        return self.ratio_of(self.jobs["weight gradient"], implementation)

    def track_hidden_error(self, shape, dtype, n_threads, implementation):
        return self.ratio_of(self.jobs["hidden error"], implementation)


class Steps(_OnOneCore):
    """Epochs of training steps."""

    params = (
        [name for name in SIZES if not name.startswith("XL")],  # there, all are at the same limit
        ["float32"],
        [1],
        ["scikit-learn", "torch", "jax"],
    )
    param_names = ("layers x batch", "dtype", "threads", "implementation")

    def setup(self, size, dtype, n_threads, implementation):
        super().setup(implementation, "Network")
        trainers, training = comparison("trainers"), comparison("training")
        size = dataclasses.replace(SIZES[size], rows=STEPS[size] * SIZES[size].batch)
        problem = training.make_problem(size)
        self.trainers = trainers.trainers(("fastbp", implementation), problem, n_threads)
        training.prove_equal(size, problem, self.trainers)

    def track_steps(self, size, dtype, n_threads, implementation):
        blocks = {name: trainer.train for name, trainer in self.trainers.items()}
        return self.ratio(blocks, implementation, EPOCH_SECONDS)


class Probabilities(_OnOneCore):
    """Predictions by 784-30-10."""

    params = (["1", "2000"], ["float32"], [1], ["scikit-learn", "torch", "jax", "onnxruntime"])
    param_names = ("rows", "dtype", "threads", "implementation")

    def setup(self, rows, dtype, n_threads, implementation):
        super().setup(implementation, "Network")
        prediction = comparison("prediction")
        parameters, x = prediction.problem()
        candidates = prediction.predictors(parameters, x[: int(rows)])
        self.candidates = pick(candidates, implementation)
        prediction.prove_equal(self.candidates)

    def track_predict_proba(self, rows, dtype, n_threads, implementation):
        repeated = self.timing.repeated
        blocks = {name: repeated(call) for name, call in self.candidates.items()}
        return self.ratio(blocks, implementation)


class MultiplyAdds(_OnOneCore):
    """Training steps against a large matrix product by NumPy's BLAS, at the same moment.

    The reciprocal of the share of the machine's multiply-add rate that training reaches.
    """

    params = (list(SIZES), ["float32"], [1])
    param_names = ("layers x batch", "dtype", "threads")
    unit = "time of a step / time of its multiply-adds in a matrix product"

    def setup(self, size, dtype, n_threads):
        super().setup("numpy", "Network")
        self.size = dataclasses.replace(SIZES[size], rows=STEPS[size] * SIZES[size].batch)
        problem = comparison("training").make_problem(self.size)
        self.trainers = comparison("trainers").trainers(("fastbp",), problem, n_threads)
        self.product, self.multiply_adds = comparison("machine").matrix_product()
        self.trainers["fastbp"].train(1)

    def track_steps(self, size, dtype, n_threads):
        blocks = {
            "fastbp": self.trainers["fastbp"].train,
            "numpy": self.timing.repeated(self.product),
        }
        in_an_epoch = self.size.steps * self.size.multiply_adds
        return self.ratio(blocks, "numpy", EPOCH_SECONDS) * self.multiply_adds / in_an_epoch


class MultiplyAddsOfProducts(_OnOneCore):
    """The products of a layer against as many multiply-adds of float32 that need no memory.

    The reciprocal of the share of the machine's multiply-add rate; in float64 twice that.
    """

    params = (FEW_PRODUCTS[1:], DTYPES, [1])
    param_names = ("batch x fan_in x fan_out", "dtype", "threads")
    unit = "time of a product / time of its multiply-adds in registers"

    def setup(self, shape, dtype, n_threads):
        super().setup("numba", "dense", "weight_gradient", "hidden_error")
        jobs = comparison("products").jobs([PRODUCTS[shape]], [dtype])
        self.jobs = {job.name: job for job in jobs}
        self.in_registers, self.multiply_adds = comparison("machine").in_registers()

    def track_forward(self, shape, dtype, n_threads):
        return self.share_of(self.jobs["forward"])

    def track_weight_gradient(self, shape, dtype, n_threads):
        return self.share_of(self.jobs["weight gradient"])

    def track_hidden_error(self, shape, dtype, n_threads):
        return self.share_of(self.jobs["hidden error"])

    def share_of(self, job):
        calls = {"fastbp": job.candidates["fastbp"], "registers": self.in_registers}
        blocks = {name: self.timing.repeated(call) for name, call in calls.items()}
        return self.ratio(blocks, "registers") * self.multiply_adds / job.multiply_adds
