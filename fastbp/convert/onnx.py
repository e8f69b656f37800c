"""Networks to ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp.convert.common import as_network, needed

if TYPE_CHECKING:
    from onnx import ModelProto

# What ONNX calls our activations
_NAMES = {"identity": "Identity", "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu"}

# Of 2021: runtimes read files of earlier versions, not of later ones.
_OPSET, _IR_VERSION = 15, 8


def to_onnx(network: Any) -> ModelProto:
    """Return an ONNX model with the parameters of a network.

    Parameters
    ----------
    network : Network or fastbp.MLPClassifier
        A classifier must be fitted.

    Returns
    -------
    onnx.ModelProto
        With the input ``X`` (n, n_features) of the network's dtype, for any number of rows, and the
        outputs ``label`` (n,) and ``probabilities`` (n, n_classes).  Labels are integers from 0 on,
        or the classifier's classes: integers (of bool, 0 and 1) or strings.

    Raises
    ------
    ImportError
        If onnx is not installed.
    TypeError
        If ``network`` is neither a Network nor a fastbp.MLPClassifier.
    sklearn.exceptions.NotFittedError
        If it is a classifier that has not been fitted.
    ValueError
        If a classifier's classes are neither integers nor strings.

    Notes
    -----
    With ``classifier`` in hand::

        onnx.save(fastbp.convert.to_onnx(classifier), "classifier.onnx")
        session = onnxruntime.InferenceSession("classifier.onnx")
        label, probabilities = session.run(None, {"X": X})
    """
    onnx = needed("onnx", "onnx")
    classes = getattr(network, "classes_", None)
    network = as_network(network)
    if classes is not None and not (
        classes.dtype.kind in "biuU" or all(isinstance(label, str) for label in classes)
    ):
        raise ValueError(f"classes_ must be integers or strings, got {classes.tolist()!r:.80}")
    node, constants, nodes, below = onnx.helper.make_node, [], [], "X"
    for l, (w, b) in enumerate(zip(network.weights, network.biases, strict=True), start=1):
        constants += [onnx.numpy_helper.from_array(w, f"w{l}")]
        constants += [onnx.numpy_helper.from_array(b, f"b{l}")]
        nodes.append(node("Gemm", [below, f"w{l}", f"b{l}"], [f"z{l}"]))
        below = f"z{l}"
        if l < len(network.weights):
            nodes.append(node(_NAMES[network.activation], [f"z{l}"], [f"a{l}"]))
            below = f"a{l}"
    nodes.append(node("Softmax", [below], ["probabilities"], axis=1))
    number = "label" if classes is None else "number"
    nodes.append(node("ArgMax", [below], [number], axis=1, keepdims=0))
    label_type = onnx.TensorProto.INT64
    if classes is not None:
        is_string = classes.dtype.kind in "UO"
        labels = classes.astype(object if is_string else np.int64)
        constants.append(onnx.numpy_helper.from_array(labels, "classes"))
        nodes.append(node("Gather", ["classes", "number"], ["label"]))
        label_type = onnx.TensorProto.STRING if is_string else label_type
    number_type = onnx.helper.np_dtype_to_tensor_dtype(network.dtype)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "fastbp",
        [value("X", number_type, ["n", network.layer_sizes[0]])],
        [
            value("label", label_type, ["n"]),
            value("probabilities", number_type, ["n", network.layer_sizes[-1]]),
        ],
        constants,
    )
    model: ModelProto = onnx.helper.make_model(
        graph,
        producer_name="fastbp",
        ir_version=_IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
    )
    onnx.checker.check_model(model)
    return model
