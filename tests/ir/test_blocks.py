"""Constants in blocks of rows are the constants."""

import mmap
import resource

import numpy as np
import onnx_ir as ir
import pytest

from dlaconv.ir import blocks
from dlaconv.ir.blocks import BlockTensor, ahead, forget, in_parallel, row_blocks, streamed


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "_ELEMENTS", 12)


@pytest.mark.parametrize("shape", [(7, 5), (3, 40), (1, 2, 3), (0, 4), (4, 0), (25,)])
def test_blocks_of_an_array_make_up_the_array(shape):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    parts = list(row_blocks(array))
    assert [rows.start for rows, _ in parts] == [0, *(rows.stop for rows, _ in parts)][: len(parts)]
    assert all(part.size <= max(12, part[:1].size) for _, part in parts)
    joined = np.concatenate([part for _, part in parts]) if parts else array
    assert np.array_equal(joined, array)


def test_block_tensor_computes_each_row_once_per_reading():
    array = np.arange(35, dtype=np.float32).reshape(7, 5)
    seen = []

    def rows(part):
        seen.append((part.start, part.stop))
        return array[part] * 2

    tensor = BlockTensor(rows, ir.DataType.FLOAT, (7, 5), "w")
    assert not seen
    assert np.array_equal(tensor.numpy(), array * 2)
    assert sorted(seen) == [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert tensor.tobytes() == (array * 2).tobytes()
    assert np.array_equal(np.concatenate([part for _, part in row_blocks(tensor)]), array * 2)


def test_forgetting_a_mapped_array_gives_its_memory_back_and_keeps_its_values(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(np.arange(1 << 22, dtype=np.float32).tobytes())
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    array = np.frombuffer(memoryview(mapped), np.float32)[5:].reshape(-1, 1)
    before = resident()
    total = array.sum(dtype=np.float64)
    grown = resident() - before
    assert grown > 8 << 20
    forget(array)
    assert resident() - before < grown / 2
    assert array.sum(dtype=np.float64) == total


def test_forgetting_any_other_array_changes_nothing():
    array = np.arange(5000.0)
    forget(array)
    forget(np.frombuffer(array.tobytes()))
    assert array.sum() == 12497500.0


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_items_made_ahead_come_in_order():
    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead([])) == []


def test_what_goes_wrong_ahead_is_raised_where_the_items_are_used():
    def items():
        yield 1
        raise KeyError("broken")

    used = []
    with pytest.raises(KeyError, match="broken"):
        used.extend(ahead(items()))
    assert used in ([], [1])


def test_a_user_who_stops_early_stops_the_maker():
    made = []
    for item in ahead(made.append(n) or n for n in range(1000)):
        if item == 3:
            break
    assert len(made) < 20


def test_functions_in_parallel_keep_their_order_and_raise_their_errors():
    assert in_parallel(lambda n: n * n, range(50)) == [n * n for n in range(50)]
    with pytest.raises(ZeroDivisionError):
        in_parallel(lambda n: 1 // n, [1, 0, 2])


@pytest.mark.parametrize("workers", [1, 3])
def test_streamed_results_come_in_order_and_items_are_not_taken_far_ahead(workers):
    taken = []
    results = streamed(lambda n: n * n, (taken.append(n) or n for n in range(1000)), workers)
    for n in range(10):
        assert next(results) == n * n
    assert len(taken) <= 10 + workers
    results.close()
    assert list(streamed(lambda n: n * n, range(50), workers)) == [n * n for n in range(50)]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_first_error_of_streamed_results_is_raised_in_its_turn(workers):
    results = streamed(lambda n: 6 // (3 - n), range(9), workers)
    assert [next(results) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.filterwarnings("error")
def test_other_threads_are_as_silent_about_numbers_as_the_one_that_asks():
    def divide(n):
        return float(np.ones(1)[0] / np.zeros(n)[0])

    with np.errstate(all="ignore"):
        assert in_parallel(divide, [1, 2]) == [np.inf] * 2
        assert list(streamed(divide, [1, 2], 2)) == [np.inf] * 2
        assert list(ahead(map(divide, [1, 2]))) == [np.inf] * 2
    with pytest.raises(RuntimeWarning):
        in_parallel(divide, [1, 2])
