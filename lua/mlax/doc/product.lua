--- Products. `einsum` has a page of its own, what is more general stands in `mlax.lax`.
-- @module mlax.product

--- The product of matrices, batched over leading axes; vectors as in NumPy.
-- @function matmul
-- @param x an array {..., n, k} or {k}
-- @param y an array {..., k, m} or {k}
-- @usage print(mlax.matmul(mlax.array{{1, 2}, {3, 4}}, mlax.array{1, 1}))   --> float32[2] [3 7]

--- The inner product over the last axis of x and the last but one of y, as in NumPy.
-- @function dot
-- @param x an array
-- @param y an array
-- @usage print(mlax.dot(mlax.array{1, 2}, mlax.array{3, 4}))   --> float32[] 11

--- All products of an element of x and one of y; both are flattened.
-- @function outer
-- @param x an array
-- @param y an array
-- @usage print(mlax.outer(mlax.array{1, 2}, mlax.array{1, 10}))   --> float32[2,2] [[ 1 10] [ 2 20]]

--- The sum of products over several axes.
-- @function tensordot
-- @param x an array
-- @param y an array
-- @param axes how many, the last of x and the first of y; or {axes of x, axes of y}
-- @usage print(mlax.tensordot(mlax.ones{2, 3}, mlax.ones{3, 2}, 1))   --> float32[2,2] [[3 3] [3 3]]
