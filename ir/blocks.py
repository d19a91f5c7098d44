"""Large constants, some rows at a time.

Weights can be larger than memory is cheap: touching fresh memory takes longer than the arithmetic.
So what walks whole tensors (quantising, writing, checking) does it in blocks of rows that fit the
processor's cache, and weights that are computed or mapped from a file are never held whole.
"""

from __future__ import annotations

import math
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir

_ELEMENTS = 1 << 16
"""Elements of a block, unless one row alone has more."""
_MOST_THREADS = 4
_KEPT = 1 << 24
_AHEAD = 4
T = TypeVar("T")
R = TypeVar("R")
Block = tuple[slice, np.ndarray]
"""Where rows lie on the first axis of a tensor, and the rows."""


class BlockTensor(ir.LazyTensor):
    """A constant that is computed when it is read, whole or block by block.

    Attributes:
        rows: computes the rows of a slice of the first axis.
    """

    def __init__(
        self,
        rows: Callable[[slice], np.ndarray],
        dtype: ir.DataType,
        shape: tuple[int, ...],
        name: str,
    ) -> None:
        """Describes a tensor of at least one dimension.

        Args:
            rows: computes the rows of a slice of the first axis.
            dtype: the element type of what ``rows`` returns.
            shape: the whole tensor's shape.
            name: the tensor's name.
        """
        super().__init__(self._whole, dtype, ir.Shape(shape), name=name)
        self.rows = rows

    def __len__(self) -> int:
        return int(self.shape.numpy()[0])

    def blocks(self) -> Iterator[Block]:
        """The rows in order."""
        for rows in row_slices(self.shape.numpy()):
            yield rows, self.rows(rows)

    def _whole(self) -> ir.TensorProtocol:
        array = np.empty(self.shape.numpy(), self.dtype.numpy())
        copy_rows(self, array)
        return ir.Tensor(array, self.dtype, name=self.name)


def row_blocks(constant: ir.TensorProtocol | np.ndarray) -> Iterator[Block]:
    """The rows of a constant in order, as blocks.

    Pages of a mapped file are given back when their block has been used: they cost no memory, and
    whoever wants them again reads them again.

    Args:
        constant: at least one dimension.
    """
    if isinstance(constant, BlockTensor):
        yield from constant.blocks()
        return
    array = constant if isinstance(constant, np.ndarray) else constant.numpy()
    for rows in row_slices(array.shape):
        yield rows, array[rows]
        forget(array[rows])


def row_slices(shape: tuple[int, ...]) -> Iterator[slice]:
    """Where the blocks of a tensor of a shape begin and end on its first axis."""
    rows = max(1, _ELEMENTS // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def each_block(function: Callable[[slice], R], shape: tuple[int, ...]) -> list[R]:
    """What a function makes of each block of a tensor's rows, in order; see `in_parallel`.

    A large tensor among small ones would keep all but one processor waiting if each were given one.
    """
    return in_parallel(function, list(row_slices(shape)))


def copy_rows(constant: np.ndarray | BlockTensor, array: np.ndarray) -> None:
    """Puts the rows of a constant into an array of its shape, on all processors."""

    def copy(rows: slice) -> None:
        block = rows_of(constant, rows)
        array[rows] = block
        forget(block)

    each_block(copy, array.shape)


def rows_of(constant: np.ndarray | BlockTensor, rows: slice) -> np.ndarray:
    """Some rows of a constant."""
    return constant.rows(rows) if isinstance(constant, BlockTensor) else constant[rows]


def tensor_of(value: ir.Value | None) -> ir.TensorProtocol:
    """The tensor behind a constant value, which `row_blocks` walks.

    Raises:
        ValueError: if the value is no constant.
    """
    if value is None or value.const_value is None:
        raise ValueError(f"{value.name if value else 'a missing input'!r} is no constant")
    return value.const_value


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parallel(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The results of a function that spends its time in numpy or the system, in order.

    Both let other threads run meanwhile. The first error is raised when all have ended.
    """
    workers = min(len(items), processors(), _MOST_THREADS)
    if workers < 2:
        return [function(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    _keep_freed_memory()
    left = iter(range(len(items)))  # whoever is ready takes the next one
    found: dict[int, R] = {}
    failed: dict[int, BaseException] = {}
    work = _alike(function)

    def take(_: int) -> None:
        for index in left:
            try:
                found[index] = work(items[index])
            except BaseException as error:  # for the caller's thread to raise
                failed[index] = error

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(take, range(workers)))
    if failed:
        raise failed[min(failed)]
    return [found[index] for index in range(len(items))]


def streamed(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """The results of a function in order, computed by several threads while items still come.

    Items are taken in the caller's thread, no more than are worked on and one. The first error is
    raised when its turn comes; items behind it are not begun.

    Args:
        function: spends its time in numpy, onnxruntime or the system.
        items: any number.
        workers: how many to work on at once.
    """
    if workers < 2:
        yield from map(function, items)
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    work = _alike(function)
    with ThreadPoolExecutor(workers) as pool:
        begun: deque[Future[R]] = deque()
        try:
            for item in items:
                begun.append(pool.submit(work, item))
                if len(begun) > workers:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for one in begun:
                one.cancel()


@cache
def _keep_freed_memory() -> None:
    """Makes glibc keep what blocks need and free, instead of asking the system for each block.

    It keeps as much as the largest array that was ever freed, twice.
    """
    np.empty(_KEPT, np.uint8)


def _alike(function: Callable[[T], R]) -> Callable[[T], R]:
    """A function that treats overflow and the like in another thread as this one does."""
    state = np.geterr()

    def work(item: T) -> R:
        with np.errstate(**state):
            return function(item)

    return work


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, made a few ahead by another thread while the last ones are used.

    Whatever goes wrong in making them is raised here.
    """
    _keep_freed_memory()
    ready: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
    room = Semaphore(_AHEAD)
    stopped = False

    def make(_: None) -> None:
        try:
            for item in items:
                room.acquire()
                if stopped:
                    return
                ready.put((True, item))
            ready.put((False, None))
        except BaseException as error:  # for the other thread to raise
            ready.put((False, error))

    maker = Thread(target=_alike(make), args=(None,), daemon=True)
    maker.start()
    try:
        while True:
            found, item = ready.get()
            if not found:
                break
            yield item
            room.release()
    finally:
        stopped = True
        room.release()
        maker.join()
    if item is not None:
        raise item


def shape_tuple(constant: ir.TensorProtocol | np.ndarray) -> tuple[int, ...]:
    """The shape of a constant."""
    shape = constant.shape
    return tuple(shape) if isinstance(shape, tuple) else tuple(map(int, shape.numpy()))


def forget(array: np.ndarray) -> None:
    """Gives back the memory of an array that is a view of a mapped file; others stay as they are.

    The array keeps its values: they are read from the file again.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = base.obj if isinstance(base, memoryview) else base
    if not isinstance(mapped, mmap.mmap) or not hasattr(mapped, "madvise"):
        return
    whole = np.frombuffer(mapped, np.uint8)
    begin = _address(array) - _address(whole)
    first = math.ceil(begin / mmap.PAGESIZE) * mmap.PAGESIZE
    length = (begin + array.nbytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
    if length > 0:
        mapped.madvise(mmap.MADV_DONTNEED, first, length)


def little_endian(array: np.ndarray) -> np.ndarray:
    """The array as ONNX stores it: contiguous, least significant byte first."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
