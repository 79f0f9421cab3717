--- What arrays have besides the functions of mlax: `x:item()`. Their fields are shape, dtype, ndim, size, nbytes, device and T (all axes
-- reversed); `#x` is the length of axis 1.
-- @module array

--- The value of an array of one element: an integer, a float or a boolean.
-- @function item
-- @usage print(mlax.array{2}:item() + 1)   --> 3.0

--- All values as nested lists.
-- @function totable
-- @usage print(mlax.array{{1, 2}, {3, 4}}:totable()[2][1])   --> 3.0

--- The raw bytes, little-endian, row-major.
-- @function tostring_bytes
-- @usage print(#mlax.ones({3}, "int16"):tostring_bytes())   --> 6

--- The lengths of all axes, as several results.
-- @function dims
-- @usage print(mlax.ones{2, 3}:dims())   --> 2 3

--- The length of one axis.
-- @function dim
-- @param axis from 1, or from -1 backwards
-- @usage print(mlax.ones{2, 3}:dim(-1))   --> 3

--- An iterator over axis 1: position and row. Of a traced array it unrolls.
-- @function rows
-- @usage for i, row in mlax.array{{1, 2}, {3, 4}}:rows() do print(i, row:sum():item()) end   --> 1 3.0 2 7.0

--- The rows as several results.
-- @function unpack
-- @usage local a, b = mlax.array{{1, 2}, {3, 4}}:unpack()
-- print(b)   --> float32[2] [3 4]

--- A place of the array, for one of :set(v) :add(v) :mul(v) :min(v) :max(v), which give the updated copy, or :get(). The index is that of
-- x[...].
-- @function at
-- @param index a table, as in x[{...}]
-- @usage print(mlax.zeros{3}:at{2}:set(5))   --> float32[3] [0 5 0]

--- x, once it has been computed.
-- @function wait
-- @usage print(mlax.ones{1}:wait())   --> float32[1] [1]

--- Frees the memory now; every later use raises and names the line.
-- @function free
-- @usage local x = mlax.ones{1000}
-- x:free()
-- print((pcall(x.sum, x)))   --> false
