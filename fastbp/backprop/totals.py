"""What a batch adds to the totals of its epoch: loss, correct rows, weight, cost with penalty.

Sums over a batch's rows are cut into blocks, as the gradients are, and the sums of the blocks are
added in a binary tree: neighbours first, then neighbouring pairs.
"""

from fastbp._compile import inlined
from fastbp._simd import at, flat, offset, put, stack_row
from fastbp.backprop.state import SQUARED_ROWS
from fastbp.backprop.step import weights_of
from fastbp.kernels._gradient import sum_of_squares
from fastbp.kernels._rows import first_largest, is_first_largest
from fastbp.kernels.cross_entropy import sum_of

# Places in the totals: sums over the rows of the weighted loss, of the weight of correct rows, and
# of the weight; sum over the batches of (mean loss + penalty) times the number of rows
LOSS, CORRECT, WEIGHT, COST = range(4)
N_TOTALS = 4

# What follows the biases in sums over some rows: LOSS and CORRECT, and whether their rank FAILED
FAILED = 2
N_REST = 3

# Vectors of sums that wait in the binary tree: enough for any number of blocks
WAITING_SUMS = 64


@inlined
def batch_weight(row_weight, batch, k_block, scratch):
    """The sum of the rows' weights, in blocks of ``k_block``."""
    if row_weight.size == 0:
        return float(batch.n)
    weights = flat(row_weight)
    waiting = stack_row(weights, WAITING_SUMS)
    total, n_blocks = 0.0, 0
    for first in range(0, batch.n, k_block):
        total = 0.0
        for i in range(first, min(first + k_block, batch.n)):
            total += at(weights, at(batch.order, batch.start + i))
        n_blocks += 1
        total = _add_in_tree(waiting, n_blocks, first + k_block >= batch.n, total, scratch)
    return total


@inlined
def _add_in_tree(waiting, n_blocks, is_last, total, scratch):
    """Add to a block's sum the sums of its neighbours that wait for it.

    Without a scratch, there is one block.
    """
    if scratch is None:
        return total
    number, left = 0, n_blocks - 1
    while left > 0:
        number += left % 2
        left //= 2
    size = n_blocks
    while number > 0 and (is_last or size % 2 == 0):
        number -= 1
        size //= 2
        total = at(waiting, number) + total
    put(waiting, number, total)
    return total


@inlined
def mark_correct_rows(z, labels, targets, row_weight, rows, correct):
    """The weight of each row whose largest logit is the label's, or else 0.

    Without labels, the largest target counts.
    """
    z_rows, n_classes, weights = flat(z), z.shape[1], flat(row_weight)
    for i in range(rows.first, rows.first + rows.n):
        if labels is None:
            label = first_largest(offset(flat(targets), i * n_classes), n_classes)
        else:
            label = at(flat(labels), i)
        is_correct = is_first_largest(offset(z_rows, i * n_classes), n_classes, label)
        weight = at(weights, i) if row_weight.size > 0 else 1.0
        put(flat(correct), i, weight if is_correct else 0.0)


@inlined
def row_sums(loss, correct, rows, k_block, scratch):
    """The sums of some rows' losses, and of the weights of correct ones, in blocks of rows."""
    weights = flat(correct)
    losses, corrects = stack_row(weights, WAITING_SUMS), stack_row(weights, WAITING_SUMS)
    total, right, n_blocks, end = 0.0, 0.0, 0, rows.first + rows.n
    for first in range(rows.first, end, k_block):
        last = min(first + k_block, end)
        n_blocks += 1
        right = 0.0
        for i in range(first, last):
            right += at(weights, i)
        right = _add_in_tree(corrects, n_blocks, last >= end, right, scratch)
        total = _add_in_tree(losses, n_blocks, last >= end, sum_of(loss[first:last]), scratch)
    return total, right


@inlined
def add_batch(totals, loss, correct, weight, n):
    """Add the sums of a batch of n rows to the epoch's totals."""
    put(totals, LOSS, at(totals, LOSS) + loss)
    put(totals, CORRECT, at(totals, CORRECT) + correct)
    put(totals, WEIGHT, at(totals, WEIGHT) + weight)
    if weight > 0.0:
        put(totals, COST, at(totals, COST) + n * (loss / weight))


@inlined
def square_block(net, block, squares):
    """Write the sums of the squares of a block's weights: ``SQUARED_ROWS`` rows each."""
    weights, end = weights_of(net, block.layer), block.first + block.n_rows
    for k in range(block.first, end, SQUARED_ROWS):
        place = (block.layer - 1) * squares.shape[1] + k // SQUARED_ROWS
        last = min(k + SQUARED_ROWS, end)
        put(flat(squares), place, sum_of_squares(weights, k, last))


@inlined
def add_penalty(totals, squares, n, l2):
    """Add a batch's penalty 0.5 l2 ||W||^2, with the weights before its update, times n."""
    total = 0.0
    for k in range(squares.size):
        total += at(flat(squares), k)
    put(totals, COST, at(totals, COST) + n * (0.5 * l2 * total))
