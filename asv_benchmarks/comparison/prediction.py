"""Probabilities of one row, and of many, by the network 784-30-10 in float32 on one thread."""

import inspect

import numpy as np

from comparison.timing import (
    MET,
    OptionalModule,
    Result,
    calls_in_a_block,
    met,
    print_head,
    print_line,
    repeated,
    take_turns,
)
from comparison.trainers import (
    Parameters,
    fastbp_network,
    jax_logits,
    scikit_learn_model,
    torch_model,
)

torch = OptionalModule("torch")
jax = OptionalModule("jax")
neural_network = OptionalModule("sklearn.neural_network")
onnx = OptionalModule("onnx")
onnxruntime = OptionalModule("onnxruntime")

ROUNDS = 25
BLOCK_SECONDS = 5e-3

MANY_ROWS = 2000
GOALS = {1: 2.5, MANY_ROWS: 1.2}  # rows: ONNX Runtime / fastbp


def report(options) -> list[Result]:
    parameters, x = problem()
    results = []
    for n, goal in GOALS.items():
        candidates = predictors(parameters, x[:n])
        prove_equal(candidates)
        blocks = {name: repeated(call) for name, call in candidates.items()}
        calls = {name: calls_in_a_block(block, BLOCK_SECONDS) for name, block in blocks.items()}
        timing = take_turns(blocks, calls, options.rounds or ROUNDS)
        if n == 1:
            ratios = [f"{name} / fastbp" for name in timing.peers()]
            print_head("rows", "fastbp us", *ratios, "goal", "met")
        is_met = met([timing.ratio(name) for name in timing.peers() if name == "onnxruntime"], goal)
        print_line(
            f"{n}",
            f"{1e6 * timing.median('fastbp'):.2f}",
            *(f"{timing.ratio(name):.2f}" for name in timing.peers()),
            f"{goal} (onnxruntime)",
            MET[is_met],
        )
        results.append(Result("prediction", f"{n} rows", goal, is_met, timing.medians()))
    return results


def problem() -> tuple[Parameters, np.ndarray]:
    rng = np.random.default_rng(0)
    parameters = [
        (rng.standard_normal(shape, np.float32) / 10, rng.standard_normal(shape[1], np.float32))
        for shape in ((784, 30), (30, 10))
    ]
    return parameters, rng.random((MANY_ROWS, 784), np.float32)


def prove_equal(candidates: dict) -> None:
    expected = candidates["fastbp"]()
    for name, call in candidates.items():
        np.testing.assert_allclose(
            call(), expected, 1e-4, 1e-7, err_msg=f"{len(expected)} rows: {name}"
        )


def predictors(parameters: Parameters, x: np.ndarray) -> dict:
    """Each call returns the probabilities of the rows of ``x`` as an array."""
    network = fastbp_network(parameters)
    has_threads = "n_threads" in inspect.signature(network.predict_proba).parameters
    threads = {"n_threads": 1} if has_threads else {}  # as in the trainer
    candidates = {"fastbp": lambda: network.predict_proba(x, **threads)}
    if onnx and onnxruntime:
        session = onnx_session(parameters)
        candidates["onnxruntime"] = lambda: session.run(None, {"x": x})[0]
    if torch:
        model = torch.nn.Sequential(torch_model(parameters), torch.nn.Softmax(dim=1)).eval()
        tensor = torch.from_numpy(x)

        def with_torch():
            with torch.inference_mode():
                return model(tensor).numpy()

        candidates["torch"] = with_torch
    if jax:
        predict = jax.jit(lambda theta, x: jax.nn.softmax(jax_logits(theta, x)))
        theta, rows = jax.tree.map(jax.numpy.asarray, (parameters, x))
        candidates["jax"] = lambda: np.asarray(predict(theta, rows))
    if neural_network:
        classifier = scikit_learn_model(parameters)
        candidates["scikit-learn"] = lambda: classifier.predict_proba(x)
    return candidates


def onnx_session(parameters: Parameters):
    """The network as an ONNX graph, in a session on one thread."""
    helper, nodes, constants = onnx.helper, [], []
    value = "x"
    for layer, (w, b) in enumerate(parameters):
        constants += [
            onnx.numpy_helper.from_array(w, f"w{layer}"),
            onnx.numpy_helper.from_array(b, f"b{layer}"),
        ]
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [f"z{layer}"]))
        activation = "Softmax" if layer == len(parameters) - 1 else "Sigmoid"
        value = f"a{layer}"
        nodes.append(helper.make_node(activation, [f"z{layer}"], [value]))
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", float32, [None, len(parameters[0][0])])],
        [helper.make_tensor_value_info(value, float32, [None, len(parameters[-1][1])])],
        constants,
    )
    # Versions that every runtime of recent years reads; the newest onnx writes newer ones.
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
