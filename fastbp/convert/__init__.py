"""Networks from scikit-learn and PyTorch, and to these and ONNX: the same predictions.

The other libraries are imported by the functions that need them, and not before.
"""

from fastbp.convert.onnx import to_onnx
from fastbp.convert.sklearn import from_sklearn, to_sklearn
from fastbp.convert.torch import from_torch, to_torch

__all__ = ["from_sklearn", "from_torch", "to_onnx", "to_sklearn", "to_torch"]
