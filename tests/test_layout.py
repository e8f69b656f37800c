"""Where parameters, activations and errors lie."""

import itertools

import numpy as np
import pytest

from fastbp import _simd
from fastbp.backprop import layout, state, tasks

ARCHITECTURES = [(5, 3), (7, 5, 3), (4, 9, 6, 2), (1, 1, 1), (64, 33, 10), (784, 512, 512, 10)]
architectures = pytest.mark.parametrize(
    "sizes", ARCHITECTURES, ids=["-".join(map(str, sizes)) for sizes in ARCHITECTURES]
)


@architectures
def test_weights_then_biases_without_gaps(sizes):
    plan = layout.make_plan(sizes)
    n_weights = sum(m * n for m, n in itertools.pairwise(sizes))
    assert plan.sizes == list(sizes)
    assert plan.n_weights == n_weights
    assert plan.n_parameters == n_weights + sum(sizes[1:])
    flat = np.arange(plan.n_parameters, dtype=np.float64)
    weights, biases = layout.weight_views(plan, flat), layout.bias_views(plan, flat)
    assert [w.shape for w in weights] == list(itertools.pairwise(sizes))
    assert [b.shape for b in biases] == [(n,) for n in sizes[1:]]
    np.testing.assert_array_equal(np.concatenate([p.ravel() for p in (*weights, *biases)]), flat)
    assert all(np.shares_memory(p, flat) and p.flags.c_contiguous for p in (*weights, *biases))


@architectures
def test_rows_of_units_are_an_odd_number_of_lines_apart(sizes):
    plan = layout.make_plan(sizes)
    layers = [layout.Layer(*row) for row in plan.table.tolist()]
    for layer in layers[:-1]:
        assert layer.row_stride >= layer.units
        assert layer.row_stride % layout.LINE == 0
        assert layer.row_stride // layout.LINE % 2 == 1
    assert layers[-1].row_stride == sizes[-1]
    ends = [layer.unit_at + layer.row_stride for layer in layers[1:-1]]
    assert [layer.unit_at for layer in layers[1:-1]] == [0, *ends][: len(ends)]
    assert plan.n_hidden == sum(layer.row_stride for layer in layers[1:-1])


@pytest.mark.parametrize("page_offset", [0, 64, 2048])
@pytest.mark.parametrize("n", [1, 17, 1000])
def test_aligned(n, page_offset, dtype):
    array = layout.aligned(n, dtype, page_offset)
    assert array.shape == (n,)
    assert array.dtype == dtype
    assert not array.any()
    assert array.ctypes.data % layout.PAGE_BYTES == page_offset
    # all that a register may read past the end is there
    end = array.base.ctypes.data + array.base.nbytes
    assert array.ctypes.data + array.nbytes + layout.MARGIN * array.itemsize <= end


@architectures
@pytest.mark.parametrize("n_threads", [1, 2, 3, 16, 1000])
def test_parts_cover_each_row_of_each_layer_once(sizes, n_threads):
    parts = tasks.make_weight_blocks(layout.make_plan(sizes), n_threads)
    covered = [
        (layer, row) for layer, first, n in parts.tolist() for row in range(first, first + n)
    ]
    assert covered == [(n, row) for n in range(1, len(sizes)) for row in range(sizes[n - 1])]
    # sums of squares are made of so many rows, whole ones
    assert not (parts[:, 1] % state.SQUARED_ROWS).any()
    if n_threads == 1:
        assert len(parts) == len(sizes) - 1


@pytest.mark.parametrize(
    "sizes", [(64, 100, 10), (16, 100, 26), (784, 30, 10), (30, 100, 10), (784, 512, 512, 10)]
)
def test_two_threads_share_the_weights_nearly_evenly(sizes):
    parts = tasks.make_weight_blocks(layout.make_plan(sizes), 2)
    work = [n * sizes[layer] for layer, _, n in parts.tolist()]
    assert max(work) <= sum(work) / 2


# Panel form

ODD_SIZES = [(5, 3), (1, 1, 1), (7, 33, 31), (3, 64, 65, 2), (130, 17, 100, 1)]


@pytest.mark.parametrize("sizes", ODD_SIZES, ids=str)
def test_panels_hold_each_number_once_in_the_order_of_their_columns(sizes, dtype):
    plan = layout.make_plan(sizes)
    plain = 1 + np.arange(plan.n_parameters, dtype=dtype)
    panels = layout.Panels(plan, plain)
    panels.fill()
    lanes, width = _simd.lane_count(plain.dtype), _simd.panel_width(plain)
    expected = []
    for w in layout.weight_views(plan, plain):
        for j in range(0, w.shape[1], width):
            panel = w[:, j : j + width]
            expected.append(np.pad(panel, ((0, 0), (0, -panel.shape[1] % lanes))).ravel())
    expected += [np.pad(b, (0, -len(b) % lanes)) for b in layout.bias_views(plan, plain)]
    np.testing.assert_array_equal(panels.numbers, np.concatenate(expected))


@pytest.mark.parametrize("sizes", ODD_SIZES, ids=str)
def test_panels_and_back(sizes, dtype):
    plan = layout.make_plan(sizes)
    before = np.random.default_rng(0).normal(size=plan.n_parameters).astype(dtype)
    plain, numbers = before.copy(), state.make_optimizer_state(plan, dtype).velocity
    layout.as_panels(plan, plain, numbers)
    np.testing.assert_array_equal(layout.as_plain(plan, numbers), before)
    panels = layout.Panels(plan, plain)
    panels.fill()
    np.testing.assert_array_equal(panels.numbers, numbers)
    plain[:] = 0
    panels.write_back()
    np.testing.assert_array_equal(plain, before)


def test_cost_grows_with_rows_and_passes():
    plan = layout.make_plan((10, 20, 5))
    cost = layout.multiply_adds(plan, 1, 1)
    assert cost > 10 * 20 + 20 * 5
    assert layout.multiply_adds(plan, 7, 3) == 21 * cost


@pytest.mark.parametrize("sizes", [(2**31, 2**31), (2, 10**30), (1, 2**60, 1)])
def test_layers_that_no_memory_holds(sizes):
    with pytest.raises(ValueError, match=r"^layer_sizes must give fewer than 2\*\*56 weights, got"):
        layout.make_plan(sizes)
