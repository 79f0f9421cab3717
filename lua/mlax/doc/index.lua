--- Reading and writing parts by position, as functions; `x[...]` and `x:at{...}` stand in the README. Positions count from 1.
-- @module mlax.index

--- Elements, rows, ... by their positions. Negative positions count from the end.
-- @function take
-- @param x an array
-- @param ids integers of any shape, which takes the place of the axis
-- @param[opt] axis along which axis; left out, x is flattened
-- @param[opt] options {mode = "error": positions outside raise; "clip": the nearest; "fill": NaN, or the least integer}
-- @usage print(mlax.take(mlax.array{10, 20, 30}, mlax.array({3, 1}, "int32"), 1))   --> float32[2] [30 10]

--- For each place of ids the element of x at that position along an axis.
-- @function take_along_axis
-- @param x an array
-- @param ids integers of as many axes
-- @param axis along which axis
-- @usage local x = mlax.array{{3, 1}, {2, 9}}
-- print(x:take_along_axis(x:argsort(2), 2))   --> float32[2,2] [[1 3] [2 9]]

--- Vectors with a one at position id, from 1 to n, and zeros elsewhere.
-- @function one_hot
-- @param ids integers
-- @param n the length
-- @param[opt] options {dtype = "float32"}
-- @usage print(mlax.one_hot(mlax.array({1, 3}, "int32"), 3))   --> float32[2,3] [[1 0 0] [0 0 1]]

--- A window at positions that may be traced. It raises when it leaves the array.
-- @function dynamic_slice
-- @param x an array
-- @param starts the first position along each axis: integers {ndim}, or a list
-- @param sizes its lengths
-- @usage print(mlax.dynamic_slice(mlax.range(1, 5), {2}, {3}))   --> int32[3] [2 3 4]

--- x with a window replaced. It raises when it leaves the array.
-- @function dynamic_update_slice
-- @param x an array
-- @param y the window
-- @param starts the first position along each axis
-- @usage print(mlax.dynamic_update_slice(mlax.zeros{4}, mlax.ones{2}, {2}))   --> float32[4] [0 1 1 0]

--- The sums of the rows of each segment.
-- @function segment_sum
-- @param x an array {m, ...}
-- @param ids the segment of each row, from 1 to n
-- @param n how many segments
-- @usage print(mlax.segment_sum(mlax.array{1, 2, 3}, mlax.array({1, 2, 1}, "int32"), 2))   --> float32[2] [4 2]

--- The positions of all elements that are not 0 or false: one array an axis. Eager only.
-- @function nonzero
-- @param x an array
-- @usage print(mlax.nonzero(mlax.array{5, 0, 7}))   --> int32[2] [1 3]
