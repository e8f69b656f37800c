"""Training by several processes, here threads with a link each: the bits are those of one."""

import hashlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest
from links import ThreadLink, on_ranks

import fastbp
from fastbp.backprop.blocks import Node, add_nodes, nodes_of, rows_per_block
from fastbp.distributed import DistributedError, Link, Sockets, steps
from fastbp.distributed.group import Group
from fastbp.training import cpus
from fastbp.training.rows import NpyFile

SIZES = (20, 33, 17, 4)

compiled = pytest.mark.compiled


def problem(n, dtype="float32"):
    """Rows, labels, target rows, and weights, some of them 0."""
    rng = np.random.default_rng(n)
    x, labels = rng.random((n, SIZES[0])).astype(dtype), rng.integers(0, SIZES[-1], n)
    targets = rng.dirichlet(np.ones(SIZES[-1]), n).astype(dtype)
    return x, labels, targets, rng.integers(0, 4, n) * 0.7


def state_of(network, history):
    """All bits of a trained network, and of what its epochs brought, but for the seconds."""
    vectors = network.parameters, network.velocity, network.second_moment
    digest = hashlib.sha256(b"".join(v.tobytes() for v in vectors)).hexdigest()
    curves = {name: values for name, values in history.as_dict().items() if name != "time"}
    return digest, network.epoch, curves


def fit(link, *data, sizes=SIZES, dtype="float32", **arguments):
    network = fastbp.Network(sizes, dtype=dtype)
    return state_of(network, network.fit(*data, comm=link, **arguments))


@pytest.mark.parametrize("n_blocks", range(1, 41))
def test_nodes_of_any_ranks_make_the_tree_of_one_process(n_blocks):
    def added(left, right):
        return f"({left}+{right})"

    leaves = [Node(k, 0) for k in range(n_blocks)]
    whole = add_nodes(leaves, list(map(str, range(n_blocks))), added)
    for size in range(1, n_blocks + 1):
        bounds = [n_blocks * q // size for q in range(size + 1)]
        nodes = [node for q in range(size) for node in nodes_of(bounds[q], bounds[q + 1])]
        sums = []
        for first, level in nodes:
            inside = [Node(k, 0) for k in range(2**level)]
            blocks = [str(first + k) for k in range(2**level)]
            sums.append(add_nodes(inside, blocks, added))
            assert first % 2**level == 0
        assert add_nodes(nodes, sums, added) == whole


def test_blocks_are_equal_and_at_least_as_many_as_shards():
    assert [rows_per_block(n) for n in (1, 128, 129, 512, 513)] == [1, 128, 65, 128, 103]
    assert [rows_per_block(n, 4) for n in (3, 32, 1024)] == [1, 8, 128]


@compiled
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("optimizer", "l2", "is_weighted", "is_soft", "batch_size"),
    [
        (fastbp.SGD(0.1), 0.0, False, False, 1024),
        (fastbp.SGD(0.1, nesterov=True), 1e-3, True, True, 1100),
        (fastbp.Adam(weight_decay=0.01), 1e-3, True, False, 1400),
    ],
    ids=["momentum", "nesterov, weights, targets", "adamw, weights"],
)
def test_any_number_of_ranks_has_the_bits_of_one_process(
    optimizer, l2, is_weighted, is_soft, batch_size, dtype
):
    x, labels, targets, weight = problem(1500, dtype)
    data = x, targets if is_soft else labels
    arguments = {
        "dtype": dtype,
        "epochs": 2,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "l2": l2,
        "sample_weight": weight if is_weighted else None,
        "validation_data": (x[:77], labels[:77]),
    }
    alone = fit(None, *data, **arguments)
    for size in range(1, 9):
        assert on_ranks(size, lambda link: fit(link, *data, **arguments)) == [alone] * size


@compiled
@pytest.mark.parametrize("short", [0, 1 << 40])
def test_halves_and_whole_messages_are_added_to_the_same_bits(short, monkeypatch):
    monkeypatch.setattr(steps, "SHORT_BYTES", short)
    x, y, _, _ = problem(1024)
    alone = fit(None, x, y, epochs=1, batch_size=1024)
    n_exchanges = []

    def work(link):
        state = fit(link, x, y, epochs=1, batch_size=1024)
        n_exchanges.append(link.n_exchanges)
        return state

    assert on_ranks(4, work) == [alone] * 4
    assert set(n_exchanges) == ({6} if short == 0 else {2})  # 2 + 2 for halves, 2 for the rest


@compiled
@pytest.mark.parametrize("batch_size", [3, 37, 200])
def test_shards_let_small_batches_be_shared_out(batch_size):
    x, y, _, _ = problem(400)
    arguments = {"epochs": 2, "batch_size": batch_size, "shards": 3}
    alone = fit(None, x, y, **arguments)
    for size in (2, 3):
        assert on_ranks(size, lambda link: fit(link, x, y, **arguments)) == [alone] * size
    whole = fit(None, x, y, epochs=2, batch_size=batch_size)
    assert alone[0] != whole[0]  # sums in another order
    np.testing.assert_allclose(alone[2]["loss"], whole[2]["loss"], rtol=1e-5)


@compiled
@pytest.mark.parametrize("n_threads", [1, 3])
def test_threads_and_faded_moments_have_the_bits_of_one_process(n_threads, monkeypatch):
    """Of a column of zeros; every 64th step puts 0 in the place of subnormal moments."""
    monkeypatch.setattr(cpus, "n_useful", lambda n_threads, *cost: n_threads or 1)
    x, y, _, _ = problem(300)
    zeros = x.copy()
    zeros[:, 3] = 0
    arguments = {"batch_size": 300, "optimizer": fastbp.Adam(beta_2=0.9)}

    def work(link):
        network = fastbp.Network(SIZES)
        network.fit(x, y, epochs=1, n_threads=1, **arguments)
        velocity, second_moment, _ = network._learner.optimizer_state
        velocity *= np.float32(1e-35)
        second_moment *= np.float32(1e-33)
        threads = 1 if link is None else n_threads
        history = network.fit(zeros, y, epochs=63, comm=link, n_threads=threads, **arguments)
        assert not network.velocity[3 * SIZES[1] : 4 * SIZES[1]].any()
        assert not network.second_moment[3 * SIZES[1] : 4 * SIZES[1]].any()
        return state_of(network, history)

    assert on_ranks(2, work) == [work(None)] * 2


@compiled
def test_ranks_read_their_own_rows_of_a_file(tmp_path, monkeypatch):
    x, y, _, _ = problem(2000)
    np.save(tmp_path / "x.npy", x)
    read, original = [], NpyFile.read

    def counted(self, pieces):
        pieces = list(pieces)
        read.append(sum(len(out) for _, out in pieces))
        original(self, pieces)

    arguments = {"epochs": 2, "batch_size": 256, "buffer_rows": 1024}

    def work(link):
        return fit(link, fastbp.open_rows(tmp_path / "x.npy", y), **arguments)

    alone = work(None)
    monkeypatch.setattr(NpyFile, "read", counted)
    assert on_ranks(2, work) == [alone] * 2
    buffers = [n for n in read if n != 2000]  # not the sample that ranks compare
    assert sum(buffers) == 2 * 2000  # two epochs, each row once


@compiled
def test_fault_of_one_rank_ends_all_after_the_same_step(tmp_path):
    x, y, _, _ = problem(600)
    path = tmp_path / "checkpoint"
    networks = {}

    def callback(network, epoch, entry):
        if epoch == 2:
            raise OSError("the callback failed")

    def work(link):
        networks[link.rank] = network = fastbp.Network(SIZES)
        network.fit(x, y, batch_size=512, comm=link, callback=callback, checkpoint=path)

    own, *others = on_ranks(3, work)
    assert repr(own) == "OSError('the callback failed')"
    for error in others:
        assert isinstance(error, DistributedError)
        assert error.rank == 0
        assert str(error) == "rank 0 of 3 failed: OSError: the callback failed"
    assert len({network.parameters.tobytes() for network in networks.values()}) == 1
    # What was saved then goes on, on any number of ranks.
    whole = fit(None, x, y, epochs=4, batch_size=512)
    arguments = {"epochs": 4, "batch_size": 512, "checkpoint": path, "resume": True}
    saved = path.read_bytes()
    for size in (1, 2, 4):
        path.write_bytes(saved)
        assert on_ranks(size, lambda link: fit(link, x, y, **arguments)) == [whole] * size


@compiled
def test_unreadable_file_of_one_rank_ends_all(tmp_path):
    x, y, _, _ = problem(2000)
    for rank in range(2):
        np.save(tmp_path / f"{rank}.npy", x)

    def work(link):
        rows = fastbp.open_rows(tmp_path / f"{link.rank}.npy", y)

        def callback(network, epoch, entry):
            (tmp_path / "1.npy").write_bytes((tmp_path / "1.npy").read_bytes()[:50_000])

        network = fastbp.Network(SIZES)
        arguments = {"batch_size": 256, "buffer_rows": 512, "callback": callback}
        network.fit(rows, comm=link, epochs=9, **arguments)

    other, own = on_ranks(2, work)
    assert isinstance(own, OSError)
    assert "1.npy ends before row" in str(own)
    assert "rank 1 of 2 failed: OSError: X: " in str(other)


@compiled
def test_bad_rows_of_one_rank_are_its_own_error(monkeypatch):
    monkeypatch.setattr("fastbp.network.N_COMPARED", 2)
    x, y, _, _ = problem(600)

    def work(link):
        mine = x.copy()
        if link.rank == 1:
            mine[5:600:7, 3] = np.nan
        network = fastbp.Network(SIZES)
        network.fit(mine, y, batch_size=512, comm=link)

    other, own = on_ranks(2, work)
    assert repr(own) == "ValueError('X must be finite, got nan in row 5')"
    assert str(other) == "rank 1 of 2 failed: ValueError: X must be finite, got nan in row 5"


@compiled
def test_divergence_is_the_same_error_on_all_ranks():
    x, y, _, _ = problem(600)

    def work(link):
        scaled = x * np.float32(1e30)
        fit(link, scaled, y, sizes=(SIZES[0], SIZES[-1]), batch_size=512, learning_rate=1e30)

    for error in on_ranks(2, work):
        assert isinstance(error, fastbp.DivergenceError)
        assert "in epoch 1" in str(error)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"batch_size": 400}, "same batch_size, got 512 on rank 0 and 400 on rank 1"),
        ({"epochs": 3}, "same epochs, got 2 on rank 0 and 3 on rank 1"),
        ({"l2": 0.5}, "same l2, got 0.0 on rank 0 and 0.5 on rank 1"),
        ({"shuffle": False}, "same shuffle, got True on rank 0 and False on rank 1"),
        ({"learning_rate": 0.2}, "same optimizer, got .* on rank 0 and .* on rank 1"),
        ({"X": problem(600)[0][::-1]}, "same X: that of rank 1 is not that of rank 0"),
        ({"y": problem(600)[1][::-1]}, "same y: that of rank 1 is not that of rank 0"),
        ({"seed": 4}, "same seed, got 0 on rank 0 and 4 on rank 1"),
        ({"scaled": True}, "same parameters: that of rank 1 is not that of rank 0"),
    ],
    ids=str,
)
def test_ranks_that_differ_are_refused(other, message):
    x, y, _, _ = problem(600)

    def work(link):
        given = {"X": x, "y": y, "epochs": 2, "batch_size": 512}
        mine = other if link.rank == 1 else {}
        network = fastbp.Network(SIZES, seed=mine.get("seed", 0))
        if mine.get("scaled"):
            network.parameters *= 2
        given |= {name: value for name, value in mine.items() if name not in ("seed", "scaled")}
        network.fit(**given, comm=link)

    for error in on_ranks(2, work):
        assert isinstance(error, ValueError), error
        with pytest.raises(ValueError, match=f"^ranks must be given the {message}$"):
            raise error


def test_argument_that_one_rank_refuses_ends_all():
    x, y, _, _ = problem(600)

    def work(link):
        fit(link, x, y, batch_size=512, momentum=2.0 if link.rank == 1 else 0.9)

    other, own = on_ranks(2, work)
    assert isinstance(own, ValueError)
    assert str(other).startswith("rank 1 of 2 failed: ValueError: momentum must be")


def test_network_that_one_rank_trains_already_ends_all():
    x, y, _, _ = problem(600)

    def work(link):
        network = fastbp.Network(SIZES)
        with network._learner.training(is_adam=False) if link.rank == 1 else nullcontext():
            network.fit(x, y, batch_size=512, comm=link)

    other, own = on_ranks(2, work)
    assert "being trained by another call" in str(own)
    assert str(other) == f"rank 1 of 2 failed: RuntimeError: {own}"


@pytest.mark.parametrize(
    ("size", "arguments", "message"),
    [
        (
            2,
            {"batch_size": 64},
            "batch_size=64 gives 1 block of at most 64 rows, for 2 ranks: take batch_size=256, or "
            r"shards=2 \(which is another result\)",
        ),
        (1, {"batch_size": 4, "shards": 5}, "shards must be at most the rows of a batch, 4, got 5"),
        (1, {"shards": 0}, "shards must be an integer >= 1, got 0"),
        (1, {"timeout": 0}, "timeout must be a finite number > 0, got 0"),
        (2, {"X": lambda: [], "y": None}, "comm needs rows in memory or in files"),
        (1, {"X": lambda: [], "y": None, "shards": 2}, "shards needs rows in memory or in files"),
    ],
)
def test_batches_that_cannot_be_shared_are_refused(size, arguments, message):
    x, y, _, _ = problem(600)
    given = {"X": x, "y": y} | arguments
    for error in on_ranks(size, lambda link: fastbp.Network(SIZES).fit(**given, comm=link)):
        with pytest.raises(ValueError, match=f"^{message}"):
            raise error


def test_what_is_no_communicator_is_refused():
    x, y, _, _ = problem(10)
    with pytest.raises(TypeError, match=r"^comm must be a communicator of mpi4py or .* got 3$"):
        fastbp.Network(SIZES).fit(x, y, comm=3)


def test_link_has_four_verbs():
    assert isinstance(ThreadLink(0, [[None]]), Link)
    assert not isinstance(object(), Link)


def test_ranks_share_the_processors_they_may_use(monkeypatch):
    limits = {"processors of this process": 8, "OMP_NUM_THREADS": 3, "quota": 6}
    monkeypatch.setattr(cpus, "thread_limits", lambda: limits)
    assert [cpus.default_threads(n) for n in (1, 2, 4, 100)] == [3, 3, 1, 1]
    monkeypatch.setattr(cpus, "default_threads", lambda n_sharing: 10 * n_sharing)
    assert on_ranks(3, lambda link: Group(link, 60.0).n_threads(None)) == [30] * 3
    assert on_ranks(3, lambda link: Group(link, 60.0).n_threads(5)) == [5] * 3


def sockets(size, key=b"k" * 16, timeout=10.0):
    """Links of ranks that listen on this machine."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(size)]
    addresses = [listener.getsockname() for listener in listeners]
    return [Sockets(q, addresses, listener, key, timeout) for q, listener in enumerate(listeners)]


def together(links, work):
    with ThreadPoolExecutor(len(links)) as pool:
        return [future.result() for future in [pool.submit(work, link) for link in links]]


@compiled
def test_sockets_are_a_link():
    x, y, _, _ = problem(1500)
    alone = fit(None, x, y, epochs=2, batch_size=1100)
    for size in (2, 3):
        links = sockets(size)
        assert together(links, lambda link: fit(link, x, y, epochs=2, batch_size=1100)) == (
            [alone] * size
        )
        assert links[0].timeout == 1800  # that of fit
        for link in links:
            link.close()


def test_sockets_pass_large_messages_both_ways_at_once():
    links = sockets(2)

    def swap(link):
        received = np.empty(3_000_000)
        link.exchange(1 - link.rank, np.full(3_000_000, float(link.rank)), received)
        link.exchange(1 - link.rank, np.empty((0, 5)), np.empty(0))
        return received.min(), received.max(), link.gather(f"of {link.rank}")

    assert together(links, swap) == [(1, 1, ["of 0", "of 1"]), (0, 0, ["of 0", "of 1"])]
    for link in links:
        link.close()


def test_strangers_do_not_disturb_sockets():
    first, second = sockets(2)
    address = first._addresses[0]
    silent = socket.create_connection(address)
    silent.close()
    stranger = Sockets(1, [address, address], socket.create_server(("127.0.0.1", 0)), b"x" * 16)
    errors = []

    def intrude():
        try:
            stranger.gather("mine")
        except DistributedError as error:
            errors.append(str(error))

    intruder = threading.Thread(target=intrude)
    intruder.start()
    assert together([first, second], lambda link: link.gather(link.rank)) == [[0, 1], [0, 1]]
    intruder.join()
    assert len(errors) == 1
    assert errors[0].startswith("rank 0 of 2 is gone: ")
    for link in (first, second, stranger):
        link.close()


def test_partner_that_is_gone_or_silent_ends_the_wait():
    first, second = sockets(2, timeout=0.5)
    together([first, second], lambda link: link.gather(None))
    with pytest.raises(DistributedError, match=r"^rank 1 of 2 did not answer for 0.5 s$") as caught:
        first.gather("hello")
    assert caught.value.rank == 1
    second.close()
    with pytest.raises(DistributedError, match=r"^rank 1 of 2 is gone: "):
        first.gather("hello")
    first.close()


@pytest.mark.parametrize(
    ("rank", "key", "message"),
    [
        (0, b"short", "key must have at least 16 bytes, got 5"),
        (2, b"k" * 16, "rank must be from"),
    ],
)
def test_sockets_refuse(rank, key, message):
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(ValueError, match=message),
    ):
        Sockets(rank, [("127.0.0.1", 1), ("127.0.0.1", 2)], listener, key)
