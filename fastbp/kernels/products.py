"""What the matrix products of a layer share: how their sums and their matrices are cut.

Each entry of a product is a sum over k in one order, which depends on the number of its terms
alone: they are cut into equal blocks of at most ``DEPTH``, a block into chains of 16; a chain is
summed in fused multiply-adds from its first term on, the chains' sums are added in turn, then the
blocks' sums.  So an entry's bits depend neither on the tile that it falls in, nor on the batch, nor
on the thread; and its error grows with the length of a chain and the numbers of chains and blocks,
not with their product.

Matrices are given by an address and the distance between rows.  The right-hand one is read in
panels, as wide as a tile; a block of a panel, ``DEPTH`` rows of it, stays in the first-level cache
while the tiles under each other pass over it.
"""

from fastbp._compile import inlined
from fastbp._llvm import (
    add_products,
    load_first,
    offset,
    panel_width,
    prefetch,
    store,
    tile_height,
    turn,
    width,
)

# Rows of a block of B, which stays in the first-level cache while the tiles of C pass over it
DEPTH = 128

# A block that is copied, in registers
BLOCK = 2 * DEPTH

# Rows of B this far apart (in numbers) share few sets of the cache: a copy is worth its while once
# it serves this many rows of A
FAR = 128
MANY_ROWS = 16


@inlined
def depth_of(n_terms):
    """Length of the blocks that a sum is cut into."""
    return (n_terms - 1) // ((n_terms - 1) // DEPTH + 1) + 1


@inlined
def height_of(n_rows):
    """Height of the tiles that ``n_rows`` are cut into: as equal as can be."""
    tiles = (n_rows - 1) // tile_height() + 1
    return (n_rows - 1) // tiles + 1


@inlined
def add_panel(a, a_row, a_k, b, b_row, count, n_rows, columns, c, c_row, first):
    """Add ``count`` terms to one panel of C (or put them there, at ``first``): tile by tile."""
    height = height_of(n_rows)
    for i in range(0, n_rows, height):
        add_products(
            offset(a, i * a_row),
            a_row,
            a_k,
            b,
            b_row,
            count,
            min(height, n_rows - i),
            columns,
            offset(c, i * c_row),
            c_row,
            first,
        )


@inlined
def in_place(b, b_row, room, n_rows, count, columns):
    """Whether a block of B can serve ``n_rows`` of A where it is.

    Tiles read whole registers: ``room`` counts the numbers from the block to the end of the memory.
    """
    step = width(b)
    read = (count - 1) * b_row + (columns + step - 1) // step * step
    return read <= room and (b_row < FAR or n_rows < MANY_ROWS)


@inlined
def copy_block(b, b_row, count, columns, block):
    """Copy a block of B: rows as long as a panel is wide, zeros behind the last column."""
    for k in range(count):
        b_k = offset(b, k * b_row)
        for j in range(0, columns, width(b)):
            prefetch(b_k, count * b_row + j, 0, 1)  # the block under this one comes next
            store(block, panel_width(b) * k + j, load_first(b_k, j, columns - j, 0.0))


@inlined
def turn_block(b, b_row, count, columns, block):
    """Copy a block of B^T: ``columns`` rows of ``count`` numbers become its columns."""
    for j in range(0, columns, width(b)):
        for k in range(0, count, width(b)):
            turn(
                offset(b, j * b_row + k),
                b_row,
                columns - j,
                count - k,
                offset(block, panel_width(b) * k + j),
                panel_width(b),
            )
