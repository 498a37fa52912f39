"""Walk trees with 512 days at a time, a bit each; compiled when first called, then cached.

Which days a threshold sends to the left is found once for all trees, as in QuickScorer (Lucchese et
al. 2015, doi 10.1145/2766462.2767733). A split is then an AND and a XOR of eight words, and a leaf
is added to the days whose bits have come to it. Days of one place have much in common: most parts
of a tree are reached by none of them, and passed over.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from llvmlite import ir
from numba.core.types import boolean, float64, uint64, void
from numba.extending import intrinsic
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tamrl.rivals.forest import Splits

WORDS = 8  # of 64 days
DAYS = 64 * WORDS
FEW_RUNS = 16  # of equal values in a column, up to which each is looked up alone
ZERO = np.float32(1e-35)  # LightGBM takes inputs no larger for 0
VECTOR = ir.VectorType(ir.IntType(64), WORDS)  # one register of AVX-512, two of AVX2, four of NEON
SUMS = ir.VectorType(ir.DoubleType(), 8)  # of days that share a byte


def predict(x: NDArray[np.float32], splits: "Splits", out: NDArray[np.float64]) -> None:
    """Write the sums of trees for ``x`` (day, input) to ``out`` (output, day).

    Nothing is checked here: splits of trees that are none would read and write foreign memory.
    """
    thresholds, nodes = (int(np.diff(v).max(initial=0)) for v in (splits.start, splits.nodes))
    rows = thresholds + 2, len(splits.rank), 2 * nodes + 1
    days, goes_left, reached = (np.zeros((n, WORDS), np.uint64) for n in rows)
    scratch = _until(), np.empty(DAYS, np.float32), days, goes_left, reached, np.empty(DAYS)
    _walk(x, splits, scratch, out)


@lru_cache(1)
def _until() -> NDArray[np.uint64]:
    """Bits (day, word) of all days before a day; day r is bit r % 64 of word r // 64."""
    bits = np.arange(DAYS) < np.arange(DAYS + 1)[:, None]
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def _inlined(function: Callable[..., Any]) -> Any:
    """Let compiled code use what a function generates; for types, its first argument goes."""
    return intrinsic(function)


def _row(context: Any, b: Any, kind: Any, array: Any, i: Any) -> Any:
    """Point to row ``i`` of an array (row, WORDS)."""
    data = context.make_array(kind)(context, b, array).data
    return b.bitcast(b.gep(data, [b.mul(i, i.type(WORDS))]), VECTOR.as_pointer())


@_inlined
def _clear(typing: Any, array: Any, i: Any) -> Any:
    """Leave no day in a row of an array."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        nothing = ir.Constant(VECTOR, [0] * WORDS)
        b.store(nothing, _row(context, b, signature.args[0], *args), align=8)
        return context.get_dummy_value()

    return void(array, uint64), generate


@_inlined
def _join(typing: Any, array: Any, i: Any, other: Any, j: Any) -> Any:
    """Add the days of row j of another array to those of row i."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        at = _row(context, b, signature.args[0], *args[:2])
        more = b.load(_row(context, b, signature.args[2], *args[2:]), align=8)
        b.store(b.or_(b.load(at, align=8), more), at, align=8)
        return context.get_dummy_value()

    return void(array, uint64, other, uint64), generate


@_inlined
def _copy(typing: Any, array: Any, i: Any, other: Any, j: Any) -> Any:
    """Let row i have the days of row j of another array."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        days = b.load(_row(context, b, signature.args[2], *args[2:]), align=8)
        b.store(days, _row(context, b, signature.args[0], *args[:2]), align=8)
        return context.get_dummy_value()

    return void(array, uint64, other, uint64), generate


@_inlined
def _split(typing: Any, reached: Any, i: Any, left: Any, right: Any, days: Any, j: Any) -> Any:
    """Send those of row i that are among row j of ``days`` to the row left, the others right."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        array, *slots = args[:4]
        here, *to = (_row(context, b, signature.args[0], array, slot) for slot in slots)
        all_days = b.load(here, align=8)
        others = b.load(_row(context, b, signature.args[4], *args[4:]), align=8)
        to_left = b.and_(all_days, others)
        b.store(to_left, to[0], align=8)
        b.store(b.xor(all_days, to_left), to[1], align=8)
        return context.get_dummy_value()

    return void(reached, uint64, uint64, uint64, days, uint64), generate


@_inlined
def _none(typing: Any, array: Any, i: Any) -> Any:
    """Whether row i has no day."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        days = b.load(_row(context, b, signature.args[0], *args), align=8)
        some = b.icmp_unsigned("!=", days, ir.Constant(VECTOR, [0] * WORDS))
        return b.icmp_unsigned("==", b.bitcast(some, ir.IntType(8)), ir.Constant(ir.IntType(8), 0))

    return boolean(array, uint64), generate


@_inlined
def _add(typing: Any, total: Any, eight: Any, days: Any, value: Any) -> Any:
    """Add a value to those of eight days in a row of ``total`` that have a bit in ``days``."""

    def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
        sums = context.make_array(signature.args[0])(context, b, args[0]).data
        first = b.gep(sums, [b.mul(args[1], args[1].type(8))])
        at = b.bitcast(first, SUMS.as_pointer())
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8)
        one = b.insert_element(ir.Constant(SUMS, ir.Undefined), args[3], lanes.type.element(0))
        before, each = b.load(at, align=8), b.shuffle_vector(one, one, lanes)
        chosen = b.bitcast(b.trunc(args[2], ir.IntType(8)), ir.VectorType(ir.IntType(1), 8))
        more = b.select(chosen, each, ir.Constant(SUMS, [0.0] * 8))  # masked stores are slow
        b.store(b.fadd(before, more), at, align=8)
        return context.get_dummy_value()

    return void(total, uint64, uint64, float64), generate


def _compiled(function: Callable[..., Any]) -> Any:
    """Compile once for all runs if a folder takes the result, else anew in each."""
    try:
        return numba.njit(function, nogil=True, cache=True)
    except RuntimeError:  # neither the package's own folder nor the user's cache can be written
        return numba.njit(function, nogil=True)


@_compiled
def _walk(x: Any, splits: Any, scratch: Any, out: Any) -> None:
    (features, start, thresholds, begin, rank, missing, condition, nodes, left, right, after,
     values, trees) = splits  # fmt: skip
    until, column, days, goes_left, reached, total = scratch
    below = np.empty(DAYS, np.uint32)  # made here, where it is known to be apart from all else
    for first in range(0, len(x), DAYS):
        n = min(DAYS, len(x) - first)
        for j in range(len(features)):
            a, b, f = start[j], start[j + 1], features[j]
            runs = 1  # of days with one value, as an attribute of a place, or what it lacks
            for r in range(n):
                v = x[first + r, f]
                column[r] = np.float32(0) if abs(v) <= ZERO else v
            for r in range(1, n):
                u, v = column[r - 1], column[r]
                runs += (u != v) & ((u == u) | (v == v))
            for k in range(b - a + 2):
                _clear(days, k)
            if runs <= FEW_RUNS:
                r = 0
                while r < n:
                    v, start_of_run, k = column[r], r, 0
                    for i in range(a, b):  # how many thresholds lie below each value
                        k += thresholds[i] < v
                    while r < n and (column[r] == v or (v != v and column[r] != column[r])):
                        r += 1
                    k = k if v == v else b - a + 1  # missing
                    for w in range(WORDS):
                        days[k, w] |= until[r, w] & ~until[start_of_run, w]
            else:
                for r in range(DAYS):
                    below[r] = 0
                for k in range(a, b):
                    threshold = thresholds[k]
                    for r in range(DAYS):
                        below[r] += threshold < column[r]
                for r in range(n):
                    k = below[r] if column[r] == column[r] else b - a + 1
                    days[k, r >> 6] |= np.uint64(1) << np.uint64(r & 63)
            k = 0
            for c in range(begin[j], begin[j + 1]):
                while k < rank[c]:
                    k += 1
                    _join(days, k, days, k - 1)
                _copy(goes_left, c, days, k)
                if missing[c]:
                    _join(goes_left, c, days, b - a + 1)
        for o in range(len(trees) - 1):
            for r in range(DAYS):
                total[r] = 0
            for t in range(trees[o], trees[o + 1]):
                for w in range(WORDS):
                    reached[0, w] = ~np.uint64(0)
                i, end = nodes[t], nodes[t + 1]
                inner, leaf = end - i, i + t - (end - i)  # slots of nodes; where leaves begin
                if inner == 0:
                    for r in range(DAYS):
                        total[r] += values[leaf]
                while i < end:
                    node = i - nodes[t]
                    if _none(reached, node):
                        i = after[i]
                        continue
                    _split(reached, node, left[i], right[i], goes_left, condition[i])
                    for child in (left[i], right[i]):
                        if child >= inner and not _none(reached, child):
                            value = values[leaf + child]
                            for w in range(WORDS):
                                word = reached[child, w]
                                for k in range(8):
                                    _add(total, 8 * w + k, word >> (8 * k), value)
                    i += 1
            for r in range(n):
                out[o, first + r] = total[r]
