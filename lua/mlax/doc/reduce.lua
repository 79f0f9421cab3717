--- Reductions, scans and order. Each is a function of mlax and a method. `axis` is a number, a list, or nil for all axes where not said
-- otherwise; with `{keepdims = true}` reduced axes stay, with length 1.
-- @module mlax.reduce

--- The sum. Booleans and integers below 32 bits give int32 or uint32; of nothing 0.
-- @function sum
-- @param x an array
-- @param[opt] axis over which axes: a number or a list; left out, all
-- @param[opt] options {keepdims = false, dtype of the sum and the result}
-- @usage print(mlax.sum(mlax.array{{1, 2}, {3, 4}}, 1))   --> float32[2] [4 6]

--- The mean, a float; of nothing NaN.
-- @function mean
-- @param x an array
-- @param[opt] axis over which axes: a number or a list; left out, all
-- @param[opt] options {keepdims = false, dtype}
-- @usage print(mlax.mean(mlax.array{{1, 2}, {3, 4}}))   --> float32[] 2.5

--- The product; of nothing 1.
-- @function prod
-- @param x an array
-- @param[opt] axis over which axes: a number or a list; left out, all
-- @param[opt] options {keepdims = false, dtype}
-- @usage print(mlax.prod(mlax.array{{1, 2}, {3, 4}}, 2))   --> float32[2] [ 2 12]

--- The greatest element; NaN where there is one. Of nothing it raises. Equal ones share the gradient.
-- @function max
-- @param x an array
-- @param[opt] axis over which axes: a number or a list; left out, all
-- @param[opt] options {keepdims = false}
-- @usage print(mlax.max(mlax.array{{1, 2}, {3, 4}}, 1, {keepdims = true}))   --> float32[1,2] [[3 4]]

--- The least element, as `max`.
-- @function min
-- @param x an array
-- @param[opt] axis over which axes: a number or a list; left out, all
-- @param[opt] options {keepdims = false}
-- @usage print(mlax.min(mlax.array{{1, 2}, {3, 4}}, 1))   --> float32[2] [1 2]

--- The variance: the mean square of the deviations from the mean.
-- @function var
-- @param x an array
-- @param[opt] axis over which axes: a number or a list; left out, all
-- @param[opt] options {keepdims = false, ddof = 0: the sum is divided by n - ddof}
-- @usage print(mlax.var(mlax.array{{1, 2}, {3, 4}}))   --> float32[] 1.25

--- The standard deviation, the root of `var`.
-- @function std
-- @param x an array
-- @param[opt] axis over which axes: a number or a list; left out, all
-- @param[opt] options {keepdims = false, ddof = 0}
-- @usage print(mlax.std(mlax.array{2, 4}))   --> float32[] 1

--- Whether one element is true, or not 0 (bool).
-- @function any
-- @param x an array
-- @param[opt] axis over which axes: a number or a list; left out, all
-- @param[opt] options {keepdims = false}
-- @usage print(mlax.any(mlax.array{false, true}))   --> bool[] true

--- Whether all elements are true, or not 0 (bool).
-- @function all
-- @param x an array
-- @param[opt] axis over which axes: a number or a list; left out, all
-- @param[opt] options {keepdims = false}
-- @usage print(mlax.all(mlax.array{false, true}))   --> bool[] false

--- log(sum(exp(x))), without overflow in between.
-- @function logsumexp
-- @param x an array
-- @param[opt] axis over which axes: a number or a list; left out, all
-- @param[opt] options {keepdims = false}
-- @usage print(mlax.logsumexp(mlax.array{1000, 1000}))   --> float32[] 1000.69

--- The root of the sum of squares.
-- @function norm
-- @param x an array
-- @param[opt] axis over which axes: a number or a list; left out, all
-- @param[opt] options {keepdims = false, ord = 2: of vectors the p of the p-norm, also math.huge}
-- @usage print(mlax.norm(mlax.array{3, 4}))   --> float32[] 5

--- The position of the greatest element, from 1; the first of equal ones; NaN counts as greatest (int32).
-- @function argmax
-- @param x an array
-- @param[opt] axis one axis; left out, the position in the flattened array
-- @param[opt] options {keepdims = false}
-- @usage print(mlax.argmax(mlax.array{{1, 9}, {7, 3}}, 2))   --> int32[2] [2 1]

--- The position of the least element, as `argmax`.
-- @function argmin
-- @param x an array
-- @param[opt] axis one axis
-- @param[opt] options {keepdims = false}
-- @usage print(mlax.argmin(mlax.array{5, 2, 8}))   --> int32[] 2

--- The sums of all elements up to each. The dtype stays.
-- @function cumsum
-- @param x an array
-- @param axis along which axis
-- @param[opt] options {reverse = false: from the end}
-- @usage print(mlax.cumsum(mlax.array{1, 2, 3}, 1))   --> float32[3] [1 3 6]

--- The products of all elements up to each. The dtype stays.
-- @function cumprod
-- @param x an array
-- @param axis along which axis
-- @param[opt] options {reverse = false: from the end}
-- @usage print(mlax.cumprod(mlax.array{1, 2, 3}, 1))   --> float32[3] [1 2 6]

--- The greatest of all elements up to each. The dtype stays.
-- @function cummax
-- @param x an array
-- @param axis along which axis
-- @param[opt] options {reverse = false: from the end}
-- @usage print(mlax.cummax(mlax.array{1, 3, 2}, 1))   --> float32[3] [1 3 3]

--- The least of all elements up to each. The dtype stays.
-- @function cummin
-- @param x an array
-- @param axis along which axis
-- @param[opt] options {reverse = false: from the end}
-- @usage print(mlax.cummin(mlax.array{3, 1, 2}, 1))   --> float32[3] [3 1 1]

--- The elements in rising order; stable, NaN last.
-- @function sort
-- @param x an array
-- @param[opt] axis along which axis (the last)
-- @usage print(mlax.sort(mlax.array{3, 1, 2}))   --> float32[3] [1 2 3]

--- The positions, from 1, that would sort x (int32).
-- @function argsort
-- @param x an array
-- @param[opt] axis along which axis (the last)
-- @usage print(mlax.argsort(mlax.array{3, 1, 2}))   --> int32[3] [2 3 1]

--- The k greatest elements of the last axis, falling, and their positions from 1 (int32).
-- @function top_k
-- @param x an array
-- @param k how many
-- @usage print(mlax.top_k(mlax.array{3, 9, 5}, 2))   --> float32[2] [9 5] int32[2] [2 3]

--- exp(x), divided by its sum along an axis.
-- @function softmax
-- @param x an array
-- @param[opt] axis along which axis (the last)
-- @usage print(mlax.softmax(mlax.array{0, 0}))   --> float32[2] [0.5 0.5]

--- The logarithm of softmax.
-- @function log_softmax
-- @param x an array
-- @param[opt] axis along which axis (the last)
-- @usage print(mlax.log_softmax(mlax.array{0, 0}))   --> float32[2] [-0.693147 -0.693147]

--- Where values would stand in a sorted vector, from 1 to n + 1 (int32).
-- @function searchsorted
-- @param sorted a rising vector {n}
-- @param v an array of values
-- @param[opt] options {side = "left": before equal elements; "right": behind them}
-- @usage print(mlax.searchsorted(mlax.array{1, 3, 5}, mlax.array{0, 3, 9}))   --> int32[3] [1 2 4]
