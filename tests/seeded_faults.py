"""Mistakes that one could make in the package, each with the tests that must notice it.

Kernels are also plain Python, and without a compiler most faults are found sooner.  Those in what
is emitted for LLVM, and those that tests only reach in compiled code, are looked for with it.  Of
test files that take long, only the tests of the faulty part are asked.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """``old`` occurs once in ``file`` of the package; with ``new`` in its place the code is wrong.

    ``tests`` are files, or tests in them.  ``explanation``: why no test can notice, if none can.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    compiled: bool
    explanation: str

    def applied_to(self, source):
        """The source with the fault."""
        return source.replace(self.old, self.new)


def _in(file, tests, *faults, compiled=False):
    """Faults of one file: name, old text, new text, and an explanation where there is one."""
    for name, old, new, *explanation in faults:
        yield Fault(name, file, old, new, tuple(tests.split()), compiled, *(explanation or [""]))


FAULTS = [
    *_in(
        "_llvm/arithmetic.py",
        "test_update",
        (
            "square root left out",
            'call_intrinsic(b, "llvm.sqrt", x.type, [x])',
            "b.fadd(x, constant(x.type, 0.0))",
        ),
        compiled=True,
    ),
    *_in(
        "_llvm/atomics.py",
        "test_atomics",
        (
            "one claimed too many",
            'builder.icmp_signed("<", seen, args[2]), take',
            'builder.icmp_signed("<=", seen, args[2]), take',
        ),
        compiled=True,
    ),
    *_in(
        "_llvm/folds.py",
        "test_cross_entropy::test_loss_sum "
        "test_cross_entropy::test_loss_sum_of_small_beside_a_large",
        (
            "what lanes lose when they are added is dropped",
            "return head, builder.fadd(builder.fadd(a_lost, b_lost), lost)",
            "return head, builder.fadd(a_lost, b_lost)",
        ),
        compiled=True,
    ),
    *_in(
        "_llvm/folds.py",
        "test_backprop::test_mark_correct test_backprop::test_first_of_equal_logits_is_the_answer "
        "test_backprop::test_first_of_equal_targets_is_the_label",
        (
            "any lane for every lane",
            'builder.icmp_unsigned("==", bits, ir.Constant(bits.type, 2**mask.count - 1))',
            'builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))',
        ),
        ("last lane for the first", "index = builder.cttz(", "index = builder.ctlz("),
        compiled=True,
    ),
    *_in(
        "_llvm/memory.py",
        "test_activation::test_matches_reference test_activation::test_stays_within_its_arguments",
        (
            "a lane too many is read and written",
            'return builder.icmp_signed("<", index, splat(',
            'return builder.icmp_signed("<=", index, splat(',
        ),
        compiled=True,
    ),
    *_in(
        "_llvm/products.py",
        "test_products",
        (
            "last column of an edge tile not written",
            "constant(INT64, sum(widths[:-1])))",
            "constant(INT64, sum(widths[:-1]) + 1))",
        ),
        (
            "last chain not shortened",
            "length = builder.select(is_short, chains.left, constant(INT64, CHAIN))",
            "length = constant(INT64, CHAIN)",
        ),
        (
            "wrong row of A within a group",
            "[builder.mul(a_row, constant(INT64, within))]",
            "[builder.mul(a_row, constant(INT64, r))]",
        ),
        (
            "one term too many",
            'builder.icmp_signed(">", left_next, constant(INT64, 0))',
            'builder.icmp_signed(">=", left_next, constant(INT64, 0))',
        ),
        (
            "overwrites where it should accumulate",
            "with builder.if_then(builder.not_(first)):",
            "with builder.if_then(first):",
        ),
        (
            "gradient with the wrong sign",
            "v_new = builder.fsub(builder.fmul(mu, v_now), descent)",
            "v_new = builder.fadd(builder.fmul(mu, v_now), descent)",
        ),
        (
            "momentum dropped",
            "v_new = builder.fsub(builder.fmul(mu, v_now), descent)",
            "v_new = builder.fsub(v_now, descent)",
        ),
        (
            "Nesterov without a look ahead",
            "lambda v=v_new, d=descent: builder.fsub(builder.fmul(mu, v), d),",
            "lambda v=v_new, d=descent: v,",
        ),
        (
            "weights updated before the velocity",
            "lambda v=v_new: v,",
            "lambda v=v_now: v,",
        ),
        (
            "penalty on the velocity",
            "lambda g=gradient, w=w_now: builder.fadd",
            "lambda g=gradient, w=v_now: builder.fadd",
        ),
        (
            "gradient behind the last column",
            "gradient = builder.select(exists[v], total, constant(kind, 0.0))",
            "gradient = total",
        ),
        compiled=True,
    ),
    *_in(
        "_llvm/turned.py",
        "test_softmax::test_matches_reference test_softmax::test_rows_are_independent",
        (
            "last row of a transposed group not written",
            "last = builder.sub(n_rows, constant(INT64, 1))",
            "last = builder.sub(n_rows, constant(INT64, 2))",
        ),
        (
            "halves swapped when a square is turned",
            "upper = [c if not c & half else count + c - half for c in range(count)]",
            "upper = [c if not c & half else count + c for c in range(count)]",
        ),
        compiled=True,
    ),
    *_in(
        "kernels/elementary.py",
        "test_elementary",
        (
            "exp forgets what the reduction loses",
            "polynomial(r, EXP_TAIL_32, EXP_TAIL_64), r_lost), shifted",
            "polynomial(r, EXP_TAIL_32, EXP_TAIL_64), 0.0 * r_lost), shifted",
        ),
        (
            "exp without subnormals",
            "EXP_ZERO_32, EXP_INF_32 = -104.0, 88.8",
            "EXP_ZERO_32, EXP_INF_32 = -87.0, 88.8",
        ),
        (
            "exp infinite too early",
            "EXP_ZERO_64, EXP_INF_64 = -746.0, 709.8",
            "EXP_ZERO_64, EXP_INF_64 = -746.0, 709.0",
        ),
        (
            "log1p without TwoSum's error: log(1 + x)",
            "lost = (x - from_x) + (1.0 - (u - from_x))",
            "lost = 0.0 * (x - from_x)",
        ),
        (
            "log1p of -1",
            "y = select(x == -1.0, -math.inf, y)",
            "y = select(x == -1.0, math.nan, y)",
        ),
        (
            "sigmoid upside down",
            "numerator = select(z < 0.0, e, 1 / LOWER)",
            "numerator = select(0.0 < z, e, 1 / LOWER)",
        ),
        (
            "sigmoid's derivative with one factor 1 / (1 + e)",
            "return fma(e, square, e * square_low) * LOWER",
            "return fma(e, t, e * t_low) * LOWER",
        ),
        ("tanh of half the argument", "exp_parts(2.0 * x)", "exp_parts(x)"),
        (
            "tanh without its sign",
            "select(z < 0.0, 0.0 - a, a))",
            "a)",
        ),
    ),
    *_in(
        "kernels/activation.py",
        "test_activation",
        (
            "relu's derivative 1 at 0",
            "carried = select(a == 0.0, 0.0, carried)",
            "carried = select(a < 0.0, 0.0, carried)",
        ),
        (
            "tanh's derivative 1 - a",
            "carried * fma(0.0 - a, a, 1.0)",
            "carried * (1.0 - a)",
        ),
        (
            "sigmoid's error overwritten",
            "store_first(delta_all, j, delta_j * (a_j * (1.0 - a_j)), a.size - j)",
            "store_first(delta_all, j, a_j * (1.0 - a_j), a.size - j)",
        ),
        (
            "relu loses NaN",
            "z = select(z < 0.0, 0.0, z)",
            "z = select(0.0 < z, z, 0.0)",
        ),
        (
            "last number of the edge not read",
            "sigmoid_lanes(load_first(z_all, j, z.size - j, 0.0))",
            "sigmoid_lanes(load_first(z_all, j, z.size - j - 1, 0.0))",
        ),
    ),
    *_in(
        "kernels/activation.py",
        "test_dense",
        (
            "sigmoid's derivative a",
            "carried = carried * (a * (1.0 - a))",
            "carried = carried * a",
        ),
    ),
    *_in(
        "kernels/row_groups.py",
        "test_softmax::test_matches_reference",
        (
            "the overlap of a row's last vector counts twice",
            "total, lost = select(overlap, total, grown), select(overlap, lost, all_lost)",
            "total, lost = grown, all_lost",
        ),
        (
            "a row's last vector not written",
            "        if whole < n_classes:\n            store(e_r, tail",
            "        if whole > n_classes:\n            store(e_r, tail",
        ),
        (
            "last class of a transposed row not written",
            "for k in range(0, group.n_classes, width(array)):",
            "for k in range(0, group.n_classes - 1, width(array)):",
        ),
        compiled=True,
    ),
    *_in(
        "kernels/row_groups.py",
        "test_softmax",
        (
            "maximum of every other vector",
            "        other = larger(load(z_i, k + step), other)\n    return larger(m, other)",
            "        other = larger(load(z_i, k + step), other)\n    return m",
        ),
        (
            "ties of the maximum forgotten",
            "return without_one(head, low, n_ties, top)",
            "return head, low",
        ),
    ),
    *_in(
        "kernels/rows.py",
        "test_softmax",
        (
            "no maximum shift",
            "shift = select(magnitude(m) < pick(m, NEAR_32, NEAR_64), 0.0, m)",
            "shift = 0.0 * m",
        ),
        (
            "FastTwoSum's error dropped",
            "lost + ((head - (grown - total)) + rest)",
            "lost + rest",
        ),
        (
            "quotient rounded twice",
            "return q, (fma(0.0 - q, b[0], a[0]) + (a[1] - q * b[1])) * inverse",
            "return q, 0.0 * q",
        ),
        (
            "largest probability rounded twice",
            "fma(e_k, high, select(e_k < e_top, e_k * low, rest_of_top))",
            "fma(e_k, high, select(e_k < e_top, e_k * low, 0.0))",
        ),
        (
            "the maximum's term added again",
            "others, lost = add_exactly(others, lost + e_lost, e)",
            "others, lost = add_exactly(others, lost + e_lost, e + select(at_top, e_top, 0.0))",
        ),
        (
            "logarithm of the sum added",
            "return difference + larger(lost - low, -math.inf)",
            "return difference + larger(lost + low, -math.inf)",
        ),
    ),
    *_in(
        "kernels/rows.py",
        "test_cross_entropy",
        (
            "TwoSum's error dropped",
            "return grown, lost + ((total - (grown - from_part)) + (part - from_part))",
            "return grown, lost",
        ),
        (
            "logarithm of the total in float32",
            "s = ((alone - near) + rest) / (near + total)",
            "s = (total - near) / (near + total)",
        ),
        (
            "log for log1p in float64",
            "head, small = log1p_parts(ratio)",
            "head, small = log1p_parts((ratio + 1.0) - 1.0)",
        ),
    ),
    *_in(
        "kernels/rows.py",
        "test_backprop::test_mark_correct test_backprop::test_first_of_equal_logits_is_the_answer "
        "test_backprop::test_first_of_equal_targets_is_the_label",
        (
            "last of equal maxima",
            "select(lanes_before(z_k, label - k), z_k < top, z_k <= top)",
            "select(lanes_before(z_k, label - k), z_k <= top, z_k < top)",
        ),
        (
            "equal maxima are all right",
            "every_lane(select(lanes_before(z_k, label - k), z_k < top, z_k <= top))",
            "every_lane(z_k <= top)",
        ),
        ("place of the largest target within its register", "return k + place", "return place"),
    ),
    *_in(
        "kernels/softmax.py",
        "test_softmax",
        (
            "infinity hides NaN",
            "math.nan if found_nan else m",
            "m",
        ),
        (
            "maximum passes over NaN",
            "z_max[i] = math.nan if has_nan(z_i, n_classes) else largest(z_i, n_classes)",
            "z_max[i] = largest(z_i, n_classes)",
        ),
    ),
    *_in(
        "kernels/cross_entropy.py",
        "test_cross_entropy::test_matches_reference "
        "test_cross_entropy::test_weights_and_scale test_cross_entropy::test_in_place",
        (
            "loss with the wrong sign",
            "((widen(m) - widen(z_label)) + log_sum + low)",
            "((widen(z_label) - widen(m)) + log_sum + low)",
        ),
        (
            "row weight not in the loss",
            "return convert(weight * (",
            "return convert(1.0 * (",
        ),
        (
            "row weight not in the error",
            "gain = scale * weight\n",
            "gain = scale * (0.0 * weight + 1.0)\n",
        ),
        (
            "logit of the last row's label for all",
            "put(wide, r, at(row(z, i), max(labels[i], 0)))",
            "put(wide, 0, at(row(z, i), max(labels[i], 0)))",
        ),
        compiled=True,
    ),
    *_in(
        "kernels/cross_entropy.py",
        "test_cross_entropy::test_output_error test_cross_entropy::test_smoothed_targets "
        "test_cross_entropy::test_loss_sum_of_small_beside_a_large",
        (
            "y - a at the label",
            "put(delta_i, labels[i], at(delta_i, labels[i]) - 1)",
            "put(delta_i, labels[i], 1 - at(delta_i, labels[i]))",
        ),
        (
            "sum of targets taken for 1 in BP1",
            "convert(fma(a_k, held, 0.0 - y_k), delta)",
            "convert(a_k - y_k, delta)",
        ),
        (
            "smoothing spread over the other classes",
            "spread = label_smoothing / n_classes",
            "spread = label_smoothing / max(n_classes - 1, 1)",
        ),
        (
            "weight of the label's class for all classes",
            "share * weight_of(class_weight, k)",
            "share * weight_of(class_weight, label)",
        ),
        (
            "losses summed in their own dtype",
            "total, lost = add_exactly(total, lost, part)",
            "total = widen(convert(total + part, loss))",
        ),
    ),
    *_in(
        "kernels/cross_entropy.py",
        "test_cross_entropy",
        (
            "label's entry with the wrong sign",
            "0.0 - not_label * (gain / total[0])",
            "not_label * (gain / total[0])",
        ),
        (
            "rows to leave out are learnt from",
            "            q = i + r\n            if labels[q] < 0 or",
            "            q = i + r\n            if labels[q] < -1 or",
        ),
        (
            "sum of targets taken for 1 in the error",
            "y_sum / (total[0] + total[1])",
            "1.0 / (total[0] + total[1])",
        ),
        (
            "sum of targets taken for 1 in the loss",
            "store(wide, 0, y_sum * (log_sum + low) + gaps)",
            "store(wide, 0, (log_sum + low) + gaps)",
        ),
        (
            "target 0 times an infinite logit",
            "select(y_k == 0.0, 0.0, y_k * (high - z_k))",
            "y_k * (high - z_k)",
        ),
        (
            "y - a of target rows",
            "fma(e_k, share, 0.0 - y_k))",
            "fma(0.0 - e_k, share, y_k))",
        ),
        (
            "an infinite loss of weight 0",
            "            if weight == 0.0:\n                loss[q] = 0\n                fill_zero",
            "            if weight < 0.0:\n                loss[q] = 0\n                fill_zero",
        ),
    ),
    *_in(
        "kernels/dense.py",
        "test_dense",
        (
            "every panel has the biases of the first",
            "b_q = load_first(b, j + q, columns - q, 0.0)",
            "b_q = load_first(b, q, columns - q, 0.0)",
        ),
        (
            "z accumulates onto what was there",
            "columns, z_ij, z_row, k == 0, ahead)",
            "columns, z_ij, z_row, k < 0, ahead)",
        ),
        (
            "each block of terms overwrites the last",
            "columns, z_ij, z_row, k == 0, ahead)",
            "columns, z_ij, z_row, k >= 0, ahead)",
        ),
        (
            "weight gradient without 1/n",
            "g = fma(g, mean[0], g * mean[1])",
            "g = g + 0.0 * mean[0]",
        ),
        (
            "bias gradient without 1/n",
            "convert(total / n, delta)",
            "convert(total, delta)",
        ),
        (
            "bias gradient without the last row",
            "for i in range(1, n):\n        part",
            "for i in range(1, n - 1):\n        part",
        ),
        (
            "bias gradient loses digits",
            "total, lost = add_exactly(total, lost, part)",
            "total = total + part",
        ),
        (
            "what an infinite sum has lost is added to it",
            "return select(lost == lost, total + lost, total)",
            "return total + lost",
        ),
    ),
    *_in(
        "kernels/dense.py",
        "test_backprop::test_step_matches_the_reference "
        "test_backprop::test_step_with_other_rates "
        "test_backprop::test_step_on_soft_targets test_backprop::test_step_of_any_kind "
        "test_backprop::test_gradient_matches_the_reference",
        (
            "rows of activations as far apart as there are units",
            "offset(a, i * delta_row), offset(delta, i * delta_row)",
            "offset(a, i * units), offset(delta, i * delta_row)",
        ),
        (
            "every group of weights gets the gradient of the first",
            "place = j * fan_in + start * row",
            "place = j * fan_in + first * row",
        ),
        (
            "penalty of weights that are not squared",
            "total = fma(w_q, w_q, total)",
            "total = total + w_q",
        ),
    ),
    *_in(
        "kernels/products.py",
        "test_products test_dense::test_matches_reference",
        (
            "blocks of terms are not equal",
            "return n if n <= most else (n - 1) // ((n - 1) // most + 1) + 1",
            "return min(n, most)",
        ),
        (
            "last tile of a panel too high",
            "min(height, n_rows - i)",
            "height",
        ),
        (
            "last column of a copied block left out",
            "load_first(b_k, j, columns - j, 0.0)",
            "load_first(b_k, j, columns - j - 1, 0.0)",
        ),
        (
            "rows and columns of a turned block swapped",
            "step, columns - q, held),",
            "step, held, columns - q),",
        ),
    ),
    *_in(
        "kernels/update.py",
        "test_update",
        (
            "gradient with the wrong sign",
            "v = momentum * v - descent",
            "v = momentum * v + descent",
        ),
        (
            "momentum dropped",
            "v = momentum * v - descent",
            "v = 0.0 - descent",
        ),
        (
            "Nesterov without a look ahead",
            "return theta + (momentum * v - descent), v",
            "return theta + v, v",
        ),
        (
            "betas swapped",
            "m = beta_1 * m + rest_1 * g",
            "m = beta_2 * m + rest_2 * g",
        ),
        (
            "second moment without a square",
            "rest_2 * (g * g)",
            "rest_2 * magnitude(g)",
        ),
        (
            "weight decay after the step",
            "return (theta - decay * theta) - rate * m / (square_root(v) + epsilon), m, v",
            "theta = theta - rate * m / (square_root(v) + epsilon)\n"
            "    return theta - decay * theta, m, v",
        ),
        (
            "epsilon under the root",
            "(square_root(v) + epsilon)",
            "square_root(v + epsilon)",
        ),
        (
            "bias correction one step late",
            "rate, root = adam_rate(learning_rate, beta_1, beta_2, t)",
            "rate, root = adam_rate(learning_rate, beta_1, beta_2, t + 1)",
        ),
        (
            "second moment corrected by the first beta",
            "root = math.sqrt(one_minus_power(beta_2, t))",
            "root = math.sqrt(one_minus_power(beta_1, t))",
        ),
        (
            "epsilon not corrected",
            "rate, epsilon * root, learning_rate",
            "rate, epsilon, learning_rate",
        ),
        (
            "negative memory flushed",
            "select(magnitude(x) < pick(x, NORMAL_32, NORMAL_64), 0.0, x)",
            "select(x < pick(x, NORMAL_32, NORMAL_64), 0.0, x)",
        ),
        (
            "power of a long training",
            "total = total + r - total * r",
            "total = total + r",
        ),
    ),
    *_in(
        "_layout.py",
        "test_layout",
        (
            "biases over the weights",
            "weight_at, bias_at, unit_at = 0, n_weights, 0",
            "weight_at, bias_at, unit_at = 0, 0, 0",
        ),
        (
            "weights of a square layer's size",
            "weight_at += layer_sizes[number - 1] * units",
            "weight_at += units * units",
        ),
        (
            "rows of units overlap",
            "unit_at += 0 if is_last else pitch",
            "unit_at += 0 if is_last else units",
        ),
        (
            "weights transposed",
            "below.units, layer.units\n        )",
            "layer.units, below.units\n        )",
        ),
        (
            "last part ends behind its layer",
            "min(k + rows, fan_in)",
            "k + rows",
        ),
        (
            "logits apart",
            "pitch = units if is_last else",
            "pitch = units if number == 0 else",
        ),
    ),
    *_in(
        "backprop.py",
        "test_backprop::test_step_matches_the_reference "
        "test_backprop::test_step_with_other_rates "
        "test_backprop::test_step_on_soft_targets test_backprop::test_step_of_any_kind",
        (
            "error without 1/n",
            "_output_error(work, first, last, 1.0 / weight if weight > 0.0 else 0.0)",
            "_output_error(work, first, last, 1.0)",
        ),
        (
            "short last batch is a mean over batch_size",
            "rows, panels, work, units, start, n, first, last",
            "rows, panels, work, units, start, batch_size, first, last",
        ),
        (
            "no error for the first hidden layer",
            "for number in range(n_layers - 1, 1, -1):",
            "for number in range(n_layers - 1, 2, -1):",
        ),
        (
            "derivative of the layer above",
            "*(below.activation, _tiny(delta),",
            "*(layer.activation, _tiny(delta),",
        ),
        (
            "biases penalised",
            "Rule(0.0, *sgd, moments, (rate, epsilon, 0.0)),",
            "Rule(l2, *sgd, moments, (rate, epsilon, 0.0)),",
        ),
        (
            "biases decay",
            "Rule(0.0, *sgd, moments, (rate, epsilon, 0.0)),",
            "Rule(0.0, *sgd, moments, (rate, epsilon, decay)),",
        ),
        (
            "alpha divided by the rows, not their weight",
            "l2 = update.l2 + (update.alpha / weight if weight > 0.0 else 0.0)\n    moments",
            "l2 = update.l2 + (update.alpha / n if weight > 0.0 else 0.0)\n    moments",
        ),
        (
            "the other epsilon corrected",
            "update.epsilon * root if update.epsilon_is_corrected",
            "update.epsilon * root if not update.epsilon_is_corrected",
        ),
        (
            "steps counted one late",
            "part, t = offset(places, 3 * item), at(steps_made, 0) + 1",
            "part, t = offset(places, 3 * item), at(steps_made, 0) + 2",
        ),
        (
            "every batch gathers the first rows",
            "number = at(order, start + i)",
            "number = at(order, i)",
        ),
        (
            "row weights not in the order of the rows",
            "i, at(flat(data.row_weight), number))",
            "i, at(flat(data.row_weight), start + i))",
        ),
        (
            "rows counted instead of weighed",
            "put(totals, 2, at(totals, 2) + weight)",
            "put(totals, 2, at(totals, 2) + n)",
        ),
        (
            "penalty without its half",
            "n * (0.5 * l2 * total)",
            "n * (l2 * total)",
        ),
        (
            "last row of a block not learnt from",
            "last = min(first + block, n)",
            "last = min(first + block, n - 1)",
        ),
    ),
    *_in(
        "backprop.py",
        "test_backprop::test_same_bits_by_any_number_of_blocks",
        (
            "rows left over by the blocks of threads",
            "block = (n - 1) // n_blocks + 1",
            "block = max(n // n_blocks, 1)",
        ),
        (
            "a claimed item taken for one's own",
            "(claimed - made * n_own) * n_threads + owner",
            "(claimed - made * n_own) * n_threads + thread",
        ),
        (
            "shares of threads rounded down",
            "n_own = (n_items - owner + n_threads - 1) // n_threads",
            "n_own = (n_items - owner) // n_threads",
        ),
        (
            "the step after the last is looked at",
            "if step >= last_step:",
            "if step > last_step:",
        ),
    ),
    *_in(
        "backprop.py",
        "test_backprop::test_shuffle_permutes test_backprop::test_shuffle_is_fair "
        "test_backprop::test_all_finite",
        (
            "a shuffle in which nothing may stay",
            "bits[i] % np.uint64(i + 1)",
            "bits[i] % np.uint64(i)",
        ),
        (
            "a shuffle that begins too low",
            "for i in range(last - 1, max(first, 1) - 1, -1):",
            "for i in range(last - 2, max(first, 1) - 1, -1):",
        ),
        (
            "only the last number has to be finite",
            "finite &= np.isfinite(numbers[q])",
            "finite = np.isfinite(numbers[q])",
        ),
    ),
    *_in(
        "backprop.py",
        "test_backprop::test_gradient_matches_the_reference "
        "test_backprop::test_logits_match_the_reference_in_any_blocks "
        "test_backprop::test_step_whose_loss_is_infinite_is_not_made",
        (
            "loss of a gradient over the rows, not their weight",
            "return loss / _batch_weight(",
            "return loss / n + 0.0 * _batch_weight(",
        ),
        (
            "logits of rows behind the last",
            "min(capacity, last_row - start)",
            "capacity",
        ),
        (
            "a step whose loss is infinite is made",
            "if not math.isfinite(batch_loss):",
            "if math.isnan(batch_loss):",
        ),
    ),
    *_in(
        "backprop.py",
        "test_backprop::test_subnormal_memory_is_looked_for_every_64_steps",
        (
            "memory of biases not flushed",
            "flush(offset(memory, layer.bias_at), layer.units)",
            "flush(offset(memory, layer.bias_at), 0)",
        ),
        (
            "only the first rows of each layer flushed",
            "flush(offset(memory, place), (last - first) * row_step)",
            "flush(offset(memory, place), row_step)",
        ),
    ),
    *_in(
        "backprop.py",
        "test_backprop::test_sparse_rows_give_the_bits_of_dense_ones",
        (
            "last number of a sparse row left out",
            "for k in range(at(starts, number), at(starts, number + 1)):",
            "for k in range(at(starts, number), at(starts, number + 1) - 1):",
        ),
        (
            "sparse rows over those of the batch before",
            "store(copy, q, fill(copy, 0.0))",
            "store(copy, q, load_first(copy, q, n_features - q, 0.0))",
        ),
    ),
    *_in(
        "_checks.py",
        "test_checks",
        (
            "a label of n_classes",
            "if labels[i] < 0 or labels[i] >= n_classes:",
            "if labels[i] < 0 or labels[i] > n_classes:",
        ),
        (
            "a label of n_classes beside ignored ones",
            "elif given[i] < 0 or given[i] >= n_classes:",
            "elif given[i] < 0 or given[i] > n_classes:",
        ),
        (
            "targets that sum to less than 1",
            "not abs(total - 1.0) <= tolerance",
            "not total - 1.0 <= tolerance",
        ),
        (
            "last target not summed",
            "for k in range(n_classes - n_classes % 4, n_classes):",
            "for k in range(n_classes - n_classes % 4, n_classes - 1):",
        ),
        ("an infinite weight", "weight[i] >= 0 and weight[i] < np.inf", "weight[i] >= 0"),
        (
            "the open end of a range",
            "below = number <= high if right else number < high",
            "below = number <= high",
        ),
        (
            "arrays of equal size are the same memory",
            'bool(x.__array_interface__["data"][0] == y.__array_interface__["data"][0])',
            "bool(x.shape == y.shape)",
        ),
        ("unaligned arrays", "if not x.flags.aligned:", "if x.size == 0:"),
    ),
    *_in(
        "steps.py",
        "test_steps",
        (
            "arrays that overlap in part",
            "if np.shares_memory(x, y):",
            "if x is y:",
        ),
        (
            "a gradient that is the parameters",
            "if any(np.may_share_memory(g, x) for x in plain):",
            "if any(np.may_share_memory(g, x) for x in plain[:0]):",
        ),
        (
            "strided parameters updated in a copy alone",
            "if not np.may_share_memory(x, given):",
            "if np.may_share_memory(x, given):",
        ),
    ),
    *_in(
        "functional.py",
        "test_functional::test_cost_of_labels_matches_reference "
        "test_functional::test_cost_of_target_rows_matches_reference "
        "test_functional::test_target_rows_are_built_in_blocks "
        "test_functional::test_out_may_be_an_input_or_overlap_it",
        (
            "out overlaps the input in part",
            "or _checks.same_memory(out, in_place):",
            "or out is not None:",
        ),
        (
            "out is another input",
            "for x in read:\n        if not _are_apart(out, x):",
            "for x in read:\n        if out is None:",
        ),
        (
            "smoothing of target rows not shared among the classes",
            "y += smoothing / n_classes",
            "y += smoothing",
        ),
        (
            "ignored rows count in the mean",
            "divisor = float(n if kept is None else np.count_nonzero(kept))",
            "divisor = float(n)",
        ),
        (
            "weighted mean over the rows",
            "divisor = kernels.loss_sum(label_weight)",
            "divisor = float(n)",
        ),
        (
            "every block has the row weights of the first",
            "row_weight[part],",
            "row_weight[: part.stop - start],",
        ),
    ),
    *_in(
        "optimizers.py",
        "test_optimizers",
        ("beta_1 of 1", '"beta_1", 0.0, 1.0, "left"', '"beta_1", 0.0, 1.0, "both"'),
        (
            "epsilon 0",
            '"epsilon", 0.0, float("inf"), "right"',
            '"epsilon", 0.0, float("inf"), "left"',
        ),
    ),
    *_in(
        "network.py",
        "test_network::test_first_weights_follow_from_the_seed "
        "test_network::test_first_weights_and_row_order_are_the_same_everywhere "
        "test_network::test_first_weights_of_each_activation "
        "test_network::test_fit_goes_on_where_it_ended "
        "test_network::test_validation test_network::test_copies "
        "test_network::test_weights_of_rows_count_as_repetitions "
        "test_network::test_a_change_of_the_optimizer_forgets_what_the_other_has_left",
        (
            "weights within the bound of their inputs alone",
            "bound = gain * np.sqrt(6.0 / sum(w.shape))",
            "bound = gain * np.sqrt(6.0 / w.shape[0])",
        ),
        (
            "gain of the first layer",
            "gain = _GAIN[self.activation] if layer > 0 else 1.0",
            "gain = _GAIN[self.activation]",
        ),
        (
            "first weights all positive",
            "(words >> np.uint64(11)) * 2.0**-52 - 1",
            "(words >> np.uint64(11)) * 2.0**-53",
        ),
        (
            "epochs counted from each call",
            "self._epoch += 1",
            "self._epoch = 1",
        ),
        (
            "validated on the training rows",
            '{"val_loss": mean_loss(z, validation), "val',
            '{"val_loss": mean_loss(self._logits(data.x, 1), data), "val',
        ),
        (
            "momentum becomes Adam's first moment",
            "_layout.forget(self._memory)\n                second",
            "second",
        ),
        (
            "a copy forgets Adam's steps",
            'self._memory.n_steps[0] = state["n_steps"]',
            "self._memory.n_steps[0] = 0",
        ),
    ),
    *_in(
        "_training.py",
        "test_network::test_fit_matches_the_reference test_network::test_divergence_in_a_step "
        "test_network::test_same_bits_in_every_run_and_any_slices",
        (
            "last short batch left out",
            "self.n_steps = -(-n // self._batch_size)",
            "self.n_steps = n // self._batch_size",
        ),
        (
            "diverged parameters stay",
            "self.parameters[:] = self.start\n",
            "pass\n",
        ),
        (
            "epoch's sums start over in each slice",
            "started = time.perf_counter()\n",
            "started = time.perf_counter()\n            self.totals[:] = 0\n",
        ),
    ),
    *_in(
        "_threads.py",
        "test_threads",
        ("weakest limit counts", "return min(counts)", "return max(counts)"),
        ("error of a thread lost", "raise errors[0]", "return"),
        (
            "Ctrl-C ends the wait",
            "interruptions.append(interruption)\n            continue",
            "return [interruption]",
        ),
        ("a quota of no processor", "max(1, round(quota))", "round(quota)"),
        (
            "weakest of the groups' quotas",
            "return min(quotas, default=None)",
            "return max(quotas, default=None)",
        ),
    ),
    *_in(
        "convert.py",
        "test_convert::test_two_classes_become_two_logits "
        "test_convert::test_predictions_of_a_network test_convert::test_predictions_by_torch "
        "test_convert::test_predictions_of_a_module",
        (
            "weights of a module not transposed",
            "layer.weight.detach().cpu().numpy().T for",
            "layer.weight.detach().cpu().numpy().reshape(layer.weight.shape[::-1]) for",
        ),
        (
            "weights for a module not transposed",
            "torch.from_numpy(w.T)",
            "torch.from_numpy(w.reshape(w.shape[::-1]))",
        ),
        (
            "the two classes swapped",
            "(p[..., 1:] - p[..., :1] for p",
            "(p[..., :1] - p[..., 1:] for p",
        ),
        (
            "bias of the wrong class",
            "np.hstack([np.zeros_like(biases[-1]), biases[-1]])",
            "np.hstack([biases[-1], np.zeros_like(biases[-1])])",
        ),
    ),
    *_in(
        "_schedule.py",
        "test_estimator::test_same_course_of_sgd "
        "test_estimator::test_same_course_of_adam_with_other_decays",
        ("rows seen counted one low", "(n_seen + 1.0) ** float", "(n_seen + 0.0) ** float"),
        (
            "rate lowered from the last one",
            "rate = self._first_rate /",
            "rate = self.learning_rate /",
        ),
        (
            "adaptive rate halved",
            "self._set_rate(self.learning_rate / 5)",
            "self._set_rate(self.learning_rate / 2)",
        ),
        (
            "epsilon corrected as in the paper",
            "epsilon_is_corrected=False)",
            "epsilon_is_corrected=True)",
        ),
        compiled=True,
    ),
    *_in(
        "_epochs.py",
        "test_estimator::test_same_course test_estimator::test_early_stopping_keeps_the_best",
        (
            "loss without the penalty",
            "float(run.totals[3]) / n",
            "float(run.totals[0]) / n",
        ),
        (
            "tolerance ignored",
            "now > best - classifier.tol, now < best",
            "now > best, now < best",
        ),
        (
            "an epoch's permutation not applied to the last one's",
            "run.order[:] = run.order[permutation]",
            "run.order[:] = permutation",
        ),
        (
            "patience ends an epoch early",
            "classifier._no_improvement_count <= classifier.n_iter_no_change",
            "classifier._no_improvement_count < classifier.n_iter_no_change",
        ),
        (
            "last parameters kept instead of the best",
            "    if best is not None:\n        network.parameters[:] = best",
            "    if best is None:\n        best = network.parameters",
        ),
        compiled=True,
    ),
    *_in(
        "_lbfgs.py",
        "test_estimator::test_finds_the_minimum_of_logistic_regression",
        ("penalty without its half", "loss + 0.5 * l2 *", "loss + l2 *"),
        ("biases penalised", "weights = slice(0, plan.n_weights)", "weights = slice(None)"),
        compiled=True,
    ),
    *_in(
        "_sklearn_data.py",
        "test_estimator::test_class_weight_is_a_weight_of_rows",
        (
            "class weight in place of the rows'",
            "row_weight = row_weight * weight",
            "pass",
        ),
        compiled=True,
    ),
    *_in(
        "estimator.py",
        "test_estimator::test_same_random_state_same_coefficients "
        "test_estimator::test_two_classes_have_two_outputs",
        (
            "first weights of sigmoid units too large",
            'factor = 2.0 if self.activation == "logistic" else 6.0',
            "factor = 6.0",
        ),
        (
            "decision for the first class",
            "return z[:, 1] - z[:, 0]",
            "return z[:, 0] - z[:, 1]",
        ),
        compiled=True,
    ),
    *_in(
        "_random.py",
        "test_network::test_fit_matches_the_reference test_random",
        (
            "words of the weights for every stream",
            "np.array([seed, stream], np.uint64)",
            "np.array([seed, 0], np.uint64)",
        ),
        ("pieces that overlap", "max(last - PIECE, 0)", "max(last - PIECE - 1, 0)"),
        ("the order before shuffled again", "order[:] = np.arange(n)", "pass"),
    ),
    *_in(
        "_measures.py",
        "test_network::test_weights_of_rows_count_as_repetitions",
        (
            "accuracy over the rows, not their weight",
            "float(kernels.loss_sum(correct)) / _total_weight(data)",
            "float(kernels.loss_sum(correct)) / len(z)",
        ),
        (
            "loss over the rows, not their weight",
            "float(kernels.loss_sum(loss)) / _total_weight(data)",
            "float(kernels.loss_sum(loss)) / len(z)",
        ),
    ),
    *_in(
        "_atomic.py",
        "test_atomic",
        ("not brought to the disk", "os.fsync(file)\n", "pass\n"),
        ("folder not brought to the disk", "sync_folder()\n", "pass\n"),
        ("written in place", "os.replace(temporary, target)", "os.rename(temporary, target + '~')"),
        (
            "rest of a short write lost",
            "rest = rest[os.write(file, rest) :]",
            "os.write(file, rest); break",
        ),
        (
            "temporary file left by errors",
            "with suppress(OSError):\n                    os.unlink(temporary)\n",
            "",
        ),
        (
            "others' temporary files removed",
            "is_left_behind = _lock(file)",
            "is_left_behind = True",
        ),
        (
            "nothing left behind is removed",
            "name.startswith(prefix) and",
            "name.startswith(name + prefix) and",
        ),
        ("links replaced", "os.path.realpath(name)", "os.path.abspath(name)"),
        ("permissions lost", "os.chmod(temporary, mode)", "pass"),
        ("pipes replaced", "if not stat.S_ISREG(status.st_mode):", "if False:"),
    ),
    *_in(
        "_safetensors.py",
        "test_safetensors",
        ("checksum not looked at", "if digest.hexdigest() != self._checksum:", "if False:"),
        ("settings outside the checksum", "json.dumps([metadata, kinds],", "json.dumps([kinds],"),
        ("gaps between arrays", "if place.start != end:", "if place.start < end:"),
        ("bytes behind the arrays", "if end != n_bytes:", "if end > n_bytes:"),
        (
            "length of an array not its shape's",
            "if end - start != n_bytes:",
            "if end - start < n_bytes:",
        ),
        ("header longer than the file", "if length > size - LENGTH_BYTES:", "if length > size:"),
        ("any number of brackets", "if n_brackets > MOST_BRACKETS:", "if False:"),
        ("any number of dimensions", "if len(shape) > MOST_DIMENSIONS:", "if False:"),
        ("a name twice", "if len(result) < len(pairs):", "if False:"),
        ("booleans taken for lengths", "type(number) is int and", "isinstance(number, int) and"),
        (
            "arrays that are not aligned",
            "-arrays[name].dtype.itemsize",
            "arrays[name].dtype.itemsize",
        ),
        (
            "end of a file taken for numbers",
            "if not n_read:\n                    self.fail",
            "if not n_read:\n                    break\n                    self.fail",
        ),
        ("pipes waited for", 'getattr(os, "O_NONBLOCK", 0)', "0"),
    ),
    *_in(
        "_model_file.py",
        "test_model_file test_safetensors",
        (
            "velocity lost",
            "if memory.second is not None or memory.velocity.any():",
            "if memory.second is not None:",
        ),
        ("steps lost", "memory.n_steps[0] = self.facts.n_steps", "pass"),
        ("any version", "if version != VERSION:", "if False:"),
        ("layers without units", "is_count(size) and size > 0", "is_count(size)"),
        ("biases not looked at", 'self._reader.check(f"biases.{layer}", dtype, shape[1:])', "pass"),
        compiled=True,
    ),
    *_in(
        "_classifier_file.py",
        "test_classifier_file",
        ("schedule lost", "classifier._optimizer = Schedule.of_state(schedule)", "pass"),
        (
            "tuples become lists",
            "return tuple(map(_decoded, held))",
            "return list(map(_decoded, held))",
        ),
        ("position of a generator unchecked", "not is_count(position, 624)", "False"),
        ("order of classes unchecked", "classes_[:-1] < classifier", "classes_[:-1] <= classifier"),
        ("code points unchecked", "or codes.max() > _LAST_CODE_POINT", ""),
        compiled=True,
    ),
    *_in(
        "_checkpoint.py",
        "test_checkpoint",
        (
            "beginning of the epoch lost",
            "if position.step:\n            arrays",
            "if False:\n            arrays",
        ),
        ("epochs in progress kept in the history", "values[: position.done]", "values"),
        (
            "batch size not compared",
            '"batch_size": min(batch_size, _layout.n_rows(data)),',
            '"batch_size": 0,',
        ),
        ("other data not noticed", "digest.update(flat[first", "digest.copy().update(flat[first"),
        (
            "other networks not noticed",
            'for field in ("layer_sizes", "activation", "dtype", "seed"):',
            "for field in ():",
        ),
        compiled=True,
    ),
    *_in(
        "_fitting.py",
        "test_checkpoint",
        (
            "resumed at the beginning of the epoch",
            "run.begin(position.step, position.totals",
            "run.begin(0, position.totals",
        ),
        (
            "totals start over",
            "position.step, position.totals, resumed",
            "position.step, [0.0] * 4, resumed",
        ),
        ("no checkpoint on an interrupt", "if not self._run.is_lost:", "if False:"),
        ("saved after divergence", "if not self._run.is_lost:", "if True:"),
        (
            "epoch closed before its callback",
            "self._history.append(entry)\n",
            "self._history.append(entry)\n        self._at = _At(done + 1, False, False)\n",
        ),
        ("stopped by a callback, and resumed", "and not self._at.ended:", ":"),
        compiled=True,
    ),
    *_in(
        "_training.py",
        "test_training",
        (
            "two trainings at once",
            "if lock.locked():\n            raise RuntimeError(",
            "lock = threading.Lock()\n        if False:\n            raise RuntimeError(",
        ),
        ("locks of a parent", "os.getpid()", "0"),
        (
            "Ctrl-C ends the writing back",
            "interruption = error\n",
            "interruption = error\n                    break\n",
        ),
        (
            "slices as long as ever",
            "return max(1, int(SLICE_SECONDS / self._pace))",
            "return 1000",
        ),
        (
            "what a callback has changed is overwritten",
            "        self._panels.fill()\n",
            "        if not self.memory.n_steps[0]:\n            self._panels.fill()\n",
        ),
        (
            "divergence after a checkpoint goes back to that",
            "if self.step < self.n_steps and self.start is self.parameters:",
            "if False:",
        ),
        (
            "others see the parameters of the beginning",
            "if self.panels is None:",
            "if True:",
        ),
        compiled=True,
    ),
    *_in(
        "kernels/dense.py",
        "test_dense::test_sums_over_a_batch_are_added_in_a_tree "
        "test_dense::test_stays_within_its_arguments",
        (
            "blocks of the weights' gradient added in turn",
            "while n_waiting > 1 and (is_last or size % 4 == 0):",
            "while n_waiting > 1:",
        ),
        (
            "blocks of the biases' gradient added in turn",
            "while number > 0 and (i + count >= n or size % 2 == 0):",
            "while number > 0:",
        ),
        (
            "a whole register is not counted at the end of B",
            "read = (count - 1) * row + (columns + step - 1) // step * step\n    return",
            "read = (count - 1) * row + columns\n    return",
        ),
        compiled=True,
    ),
    *_in(
        "kernels/update.py",
        "test_backprop::test_step_of_any_kind",
        (
            "penalty left out",
            "g = g + rule.l2 * theta_q",
            "g = g + 0.0 * theta_q",
        ),
    ),
    *_in(
        "backprop.py",
        "test_network::test_sums_over_a_batch_are_added_in_a_tree "
        "test_backprop::test_same_bits_by_any_number_of_threads",
        (
            "blocks of losses and weights added in turn",
            "while number > 0 and (is_last or size % 2 == 0):",
            "while number > 0:",
        ),
        (
            "biases updated with every part",
            "if first == 0:\n        place = layer.bias_at",
            "if first >= 0:\n        place = layer.bias_at",
        ),
        compiled=True,
    ),
    *_in(
        "backprop.py",
        "test_network::test_tiny_activations_and_errors_are_zero_in_training_alone "
        "test_network::test_a_row_that_is_all_but_certain_is_learnt_from_no_more",
        (
            "tiny activations count",
            "a_next, kept = _rows_of(units.hidden, units.capacity, layer, first), smallest",
            "a_next, kept = _rows_of(units.hidden, units.capacity, layer, first), 0.0",
        ),
        (
            "tiny errors of outputs count",
            "without_tiny(load_first(flat(delta), q, held, 0.0), _tiny(flat(delta)))",
            "load_first(flat(delta), q, held, 0.0)",
        ),
        (
            "tiny errors of hidden units count",
            "*(below.activation, _tiny(delta),",
            "*(below.activation, 0.0,",
        ),
    ),
]
