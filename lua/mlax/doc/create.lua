--- Making arrays. dtypes: bool, int8 to int64, uint8 to uint64, float16, bfloat16, float32, float64. A shape is a list; {} is a scalar.
-- @module mlax.create

--- An array of nested lists, a number, a boolean or an array.
-- @function array
-- @param v lists of equal length at each depth
-- @param[opt] dtype float32 of numbers and bool of booleans, where it is left out
-- @usage print(mlax.array{{1, 2}, {3, 4}}, mlax.array({1, 2}, "int32"))   --> float32[2,2] [[1 2] [3 4]] int32[2] [1 2]

--- An array of zeros.
-- @function zeros
-- @param shape a list of lengths
-- @param[opt] dtype its name ("float32")
-- @usage print(mlax.zeros{2, 2})   --> float32[2,2] [[0 0] [0 0]]

--- An array of ones.
-- @function ones
-- @param shape a list of lengths
-- @param[opt] dtype its name ("float32")
-- @usage print(mlax.ones({2}, "int32"))   --> int32[2] [1 1]

--- An array of one value.
-- @function full
-- @param shape a list of lengths
-- @param v a number, a boolean or an array of one element
-- @param[opt] dtype its name (float32, of a boolean bool)
-- @usage print(mlax.full({2}, 7))   --> float32[2] [7 7]

--- The identity matrix {n, n}.
-- @function eye
-- @param n a number
-- @param[opt] dtype its name ("float32")
-- @usage print(mlax.eye(2))   --> float32[2,2] [[1 0] [0 1]]

--- Zeros of the shape and dtype of x.
-- @function zeros_like
-- @param x an array
-- @usage print(mlax.zeros_like(mlax.ones{2}))   --> float32[2] [0 0]

--- Ones of the shape and dtype of x.
-- @function ones_like
-- @param x an array
-- @usage print(mlax.ones_like(mlax.zeros{2}))   --> float32[2] [1 1]

--- One value, in the shape and dtype of x.
-- @function full_like
-- @param x an array
-- @param v a number
-- @usage print(mlax.full_like(mlax.zeros{2}, 3))   --> float32[2] [3 3]

--- Numbers from first to last, both included, as in `for`.
-- @function range
-- @param first a number
-- @param last a number
-- @param[opt] step a number (1)
-- @param[opt] dtype int32 where all are integers, else float32
-- @usage print(mlax.range(1, 4), mlax.range(0, 1, 0.5))   --> int32[4] [1 2 3 4] float32[3] [0.0 0.5 1.0]

--- n numbers at equal distances, both ends included.
-- @function linspace
-- @param first a number
-- @param last a number
-- @param n how many
-- @usage print(mlax.linspace(0, 1, 3))   --> float32[3] [0.0 0.5 1.0]

--- An array of raw bytes, little-endian.
-- @function from_string
-- @param bytes a string
-- @param dtype its name
-- @param shape a list of lengths
-- @usage print(mlax.from_string("\1\0\2\0", "int16", {2}))   --> int16[2] [1 2]

--- 0-based integer data as 1-based.
-- @function ids
-- @param x an integer array
-- @param options {from = 0: what the first one is}
-- @usage print(mlax.ids(mlax.array({0, 2}, "int32"), {from = 0}))   --> int32[2] [1 3]

--- Whether a value is an array, traced ones too.
-- @function is_array
-- @param v any value
-- @usage print(mlax.is_array(mlax.ones{1}), mlax.is_array{1})   --> true false
