"""Blocks of products of small matrices in vector instructions, written as LLVM code for `rows_kernel`.

Of plain loops the compiler cannot tell whether arrays overlap, and asks so often that it takes longer than the sums,
which stay in registers here. Matrices are arrays of two axes whose numbers follow each other along the second one.
Axes: R rows of the left matrix, K inner, C columns.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types

from lmlp_stream.atoms.compiled import inlined

N_ROWS, N_BYTES = 5, 64
"""Rows of a block, and bytes of a row of it: of 16 registers of 32 bytes this takes 10, and 2 for what is read."""
N_DOT_ROWS, N_DOT_OTHERS, N_DOT_BYTES = 2, 4, 32
"""Rows of either matrix in a block of dot products, and bytes of them that are multiplied at once."""
N_AHEAD = 32
"""Rows of the matrix that are read before the next columns are, and how far ahead of them rows are fetched to the
cache, be it of what follows the matrix in memory."""
FETCH = (0, 2, 1)
"""To be read, kept in the second cache, and data (llvm.org/docs/LangRef.html#llvm-prefetch-intrinsic)."""

INDEX, LANE, BYTE = ir.IntType(64), ir.IntType(32), ir.IntType(8)
Factors = list[tuple[ir.Value, ir.Value]]


@inlined
def write_block(typing: Any, left: Any, matrix: Any, out: Any, row: Any, column: Any, begin: Any, end: Any) -> Any:
    """Write or add to `N_ROWS` rows and `N_BYTES` of columns of out = left · matrix: [R K] and [K C] give [R C].

    Args (of the compiled function):
        left: As many rows as `out`; the last one stands for those that a block has beyond it.
        matrix: As many columns as `out`, at least `N_BYTES` of them.
        out: Where the block is written.
        row: Its first row.
        column: Its first column; all of it lies within the matrix.
        begin: First row of the matrix that counts; if it is not the first one at all, the block is added to.
        end: First row of the matrix that no longer counts.
    """
    del typing
    return types.void(left, matrix, out, row, column, begin, end), _write_block


@inlined
def write_dots(typing: Any, left: Any, matrix: Any, out: Any, row: Any, other: Any) -> Any:
    """Write `N_DOT_ROWS` rows and `N_DOT_OTHERS` columns of out = left · matrixᵀ: [R C] and [K C] give [R K].

    Args (of the compiled function):
        left: As many rows as `out`, at least `N_DOT_BYTES` of columns; the last row stands for those beyond it.
        matrix: As many rows as `out` has columns, which also may end within a block; columns beyond those of `left`
            do not count.
        out: Where the block is written.
        row: Its first row.
        other: Its first column.
    """
    del typing
    return types.void(left, matrix, out, row, other), _write_dots


@inlined
def fetch(typing: Any, matrix: Any, row: Any, column: Any) -> Any:
    """Ask for what lies `N_AHEAD` rows further than a place of the matrix to be in the cache soon."""
    del typing
    return types.void(matrix, row, column), _fetch


def _write_block(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> Any:
    left, matrix, out = (_Matrix(context, builder, *of) for of in zip(signature.args, arguments[:3], strict=False))
    row, column, begin, end = arguments[3:]
    vector = ir.VectorType(matrix.number, N_BYTES // matrix.n_bytes)
    lefts, outs = left.rows(row, N_ROWS), out.rows(row, N_ROWS)

    def factors(k: ir.Value) -> Factors:
        of_matrix = matrix.row(k)
        matrix.fetch(of_matrix, column)
        numbers = matrix.load(of_matrix, column, vector)
        return [(_splat(builder, left.load(of_left, k), vector), numbers) for of_left in lefts]

    is_first = builder.icmp_signed("==", begin, ir.Constant(INDEX, 0))
    before = [builder.select(is_first, ir.Constant(vector, None), out.load(of_out, column, vector)) for of_out in outs]
    for of_out, total in zip(outs, _summed(builder, (begin, end, 1), before, factors), strict=True):
        out.store(total, of_out, column)
    return context.get_dummy_value()


def _write_dots(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> Any:
    left, matrix, out = (_Matrix(context, builder, *of) for of in zip(signature.args, arguments[:3], strict=False))
    row, other = arguments[3:]
    n_lanes = N_DOT_BYTES // matrix.n_bytes
    vector = ir.VectorType(matrix.number, n_lanes)
    lefts, others = left.rows(row, N_DOT_ROWS), matrix.rows(other, N_DOT_OTHERS)

    def factors(t: ir.Value, kept: ir.Value | None = None) -> Factors:
        numbers = [left.load(of_left, t, vector) for of_left in lefts]
        if kept is not None:
            numbers = [builder.select(kept, of_left, ir.Constant(vector, None)) for of_left in numbers]
        of_others = [matrix.load(of_other, t, vector) for of_other in others]
        return [(of_left, of_other) for of_left in numbers for of_other in of_others]

    def remaining_factors(done: ir.Value) -> Factors:
        """Those of the last lanes, where what is done already counts as zero."""
        first = builder.sub(left.n_columns, ir.Constant(INDEX, n_lanes))
        lanes = ir.Constant(ir.VectorType(INDEX, n_lanes), list(range(n_lanes)))
        n_done = _splat(builder, builder.sub(done, first), lanes.type)
        return factors(first, builder.icmp_signed(">=", lanes, n_done))

    whole = builder.and_(left.n_columns, ir.Constant(INDEX, -n_lanes))
    zeros = [ir.Constant(vector, None)] * (N_DOT_ROWS * N_DOT_OTHERS)
    sums = _summed(builder, (ir.Constant(INDEX, 0), whole, n_lanes), zeros, factors)
    sums = _summed(builder, (whole, left.n_columns, n_lanes), sums, remaining_factors)
    totals = iter(_added_up(builder, sums))
    columns = out.columns(other, N_DOT_OTHERS)
    for of_out in out.rows(row, N_DOT_ROWS):
        for column in columns:
            out.store(next(totals), of_out, column)
    return context.get_dummy_value()


def _fetch(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> Any:
    value, row, column = arguments
    matrix = _Matrix(context, builder, signature.args[0], value)
    matrix.fetch(matrix.row(row), column)
    return context.get_dummy_value()


class _Matrix:
    """An array of two axes in code that is being built."""

    def __init__(self, context: Any, builder: ir.IRBuilder, type_: Any, value: ir.Value) -> None:
        if type_.layout == "F":
            raise TypeError("numbers of a matrix must follow each other along its second axis")
        array = context.make_array(type_)(context, builder, value=value)
        self._builder = builder
        self._data = builder.bitcast(array.data, BYTE.as_pointer())
        self._by_row = builder.extract_value(array.strides, 0)
        self._n_rows, self.n_columns = (builder.extract_value(array.shape, axis) for axis in range(2))
        self.number = context.get_value_type(type_.dtype)
        self.n_bytes = type_.dtype.bitwidth // 8

    def row(self, index: ir.Value) -> ir.Value:
        """Where a row begins."""
        return self._builder.gep(self._data, [self._builder.mul(index, self._by_row)])

    def rows(self, first: ir.Value, count: int) -> list[ir.Value]:
        """Where so many rows begin; the last one stands for those beyond it."""
        return [self.row(index) for index in self._up_to(first, count, self._n_rows)]

    def columns(self, first: ir.Value, count: int) -> list[ir.Value]:
        """So many columns; the last one stands for those beyond it."""
        return self._up_to(first, count, self.n_columns)

    def load(self, row: ir.Value, column: ir.Value, type_: ir.Type | None = None) -> ir.Value:
        """A number, or a vector of them."""
        return self._builder.load(self._at(row, column, type_ or self.number), align=self.n_bytes)

    def store(self, value: ir.Value, row: ir.Value, column: ir.Value) -> None:
        """Write a number or a vector."""
        self._builder.store(value, self._at(row, column, value.type), align=self.n_bytes)

    def fetch(self, row: ir.Value, column: ir.Value) -> None:
        """Ask for what lies `N_AHEAD` rows further to be in the cache soon."""
        distance = self._builder.mul(self._by_row, ir.Constant(INDEX, N_AHEAD))
        there = self._builder.gep(self._at(row, column, BYTE), [distance])
        type_ = ir.FunctionType(ir.VoidType(), [there.type, LANE, LANE, LANE])
        prefetch = self._builder.module.declare_intrinsic("llvm.prefetch", [there.type], type_)
        self._builder.call(prefetch, [there, *(ir.Constant(LANE, argument) for argument in FETCH)])

    def _at(self, row: ir.Value, column: ir.Value, type_: ir.Type) -> ir.Value:
        offset = self._builder.mul(column, ir.Constant(INDEX, self.n_bytes))
        return self._builder.bitcast(self._builder.gep(row, [offset]), type_.as_pointer())

    def _up_to(self, first: ir.Value, count: int, end: ir.Value) -> list[ir.Value]:
        last = self._builder.sub(end, ir.Constant(INDEX, 1))
        found = (self._builder.add(first, ir.Constant(INDEX, place)) for place in range(count))
        return [self._builder.select(self._builder.icmp_signed("<", i, last), i, last) for i in found]


def _summed(
    builder: ir.IRBuilder,
    indices: tuple[ir.Value, ir.Value, int],
    sums: Sequence[ir.Value],
    factors: Callable[[ir.Value], Factors],
) -> list[ir.Value]:
    """What sums are after a loop over range(*indices), in which each grows by the product of its two factors."""
    first, end, step = indices
    before, body, after = builder.block, builder.append_basic_block("body"), builder.append_basic_block("after")
    builder.cbranch(builder.icmp_signed("<", first, end), body, after)
    builder.position_at_end(body)
    index, *grown = (builder.phi(value.type) for value in (first, *sums))
    products = [builder.fmul(*pair, flags=("contract",)) for pair in factors(index)]
    larger = [builder.fadd(total, product, flags=("contract",)) for total, product in zip(grown, products, strict=True)]
    following = builder.add(index, ir.Constant(INDEX, step))
    builder.cbranch(builder.icmp_signed("<", following, end), body, after)
    for phi, begin, later in zip((index, *grown), (first, *sums), (following, *larger), strict=True):
        phi.add_incoming(begin, before)
        phi.add_incoming(later, body)
    builder.position_at_end(after)
    found = [builder.phi(value.type) for value in sums]
    for phi, begin, later in zip(found, sums, larger, strict=True):
        phi.add_incoming(begin, before)
        phi.add_incoming(later, body)
    return found


def _added_up(builder: ir.IRBuilder, vectors: Sequence[ir.Value]) -> list[ir.Value]:
    """The sum of the numbers of each of 2^n vectors, at least as many as one has lanes: of neighbors, two by two."""
    n_lanes = vectors[0].type.count
    every_second = [ir.Constant(ir.VectorType(LANE, n_lanes), list(range(k, 2 * n_lanes, 2))) for k in range(2)]
    for _ in range(n_lanes.bit_length() - 1):
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [builder.fadd(*(builder.shuffle_vector(*pair, lanes) for lanes in every_second)) for pair in pairs]
    return [builder.extract_element(v, ir.Constant(LANE, lane)) for v in vectors for lane in range(n_lanes)]


def _splat(builder: ir.IRBuilder, value: ir.Value, vector: ir.VectorType) -> ir.Value:
    """A vector of equal numbers."""
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(LANE, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(LANE, vector.count), None))
