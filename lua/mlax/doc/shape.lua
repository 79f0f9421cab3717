--- Shapes. Each is a function of mlax and, but for `concat` and `stack`, a method. Axes count from 1, or from -1 backwards.
-- @module mlax.shape

--- The same elements, in row-major order, with other lengths.
-- @function reshape
-- @param x an array
-- @param shape a list of lengths, of which one may be -1
-- @usage print(mlax.reshape(mlax.range(1, 6), {2, -1}))   --> int32[2,3] [[1 2 3] [4 5 6]]

--- All elements as a vector.
-- @function flatten
-- @param x an array
-- @usage print(mlax.range(1, 6):reshape{2, 3}:flatten())   --> int32[6] [1 2 3 4 5 6]

--- The axes in another order.
-- @function transpose
-- @param x an array
-- @param[opt] axes for each axis of the result the axis of x; left out, all axes reversed
-- @usage print(mlax.range(1, 6):reshape{2, 3}:transpose{2, 1})   --> int32[3,2] [[1 4] [2 5] [3 6]]

--- Two axes exchanged.
-- @function swapaxes
-- @param x an array
-- @param a an axis
-- @param b another
-- @usage print(mlax.range(1, 6):reshape{2, 3}:swapaxes(1, 2).shape[1])   --> 3

--- One axis at another place, the others in their order.
-- @function moveaxis
-- @param x an array
-- @param from the axis
-- @param to where it will stand
-- @usage print(mlax.ones{2, 3, 4}:moveaxis(1, -1):dims())   --> 3 4 2

--- Without axes of length 1.
-- @function squeeze
-- @param x an array
-- @param[opt] axis which, a number or a list; left out, all of them
-- @usage print(mlax.ones{1, 3, 1}:squeeze(1):dims())   --> 3 1

--- With a new axis of length 1.
-- @function expand_dims
-- @param x an array
-- @param axis where it stands in the result
-- @usage print(mlax.ones{3}:expand_dims(1):dims())   --> 1 3

--- Repeated along axes of length 1 and new first ones, without a copy.
-- @function broadcast_to
-- @param x an array
-- @param shape a list of lengths
-- @usage print(mlax.array{1, 2}:broadcast_to{2, 2})   --> float32[2,2] [[1 2] [1 2]]

--- Arrays one behind the other.
-- @function concat
-- @param list arrays that agree in all other axes
-- @param axis along which axis
-- @usage print(mlax.concat({mlax.ones{2}, mlax.zeros{1}}, 1))   --> float32[3] [1 1 0]

--- Arrays side by side along a new axis.
-- @function stack
-- @param list arrays of one shape
-- @param axis where the new axis stands in the result
-- @usage print(mlax.stack({mlax.array{1, 2}, mlax.array{3, 4}}, 2))   --> float32[2,2] [[1 3] [2 4]]

--- Parts along an axis, as several results.
-- @function split
-- @param x an array
-- @param n how many equal parts; or a list of positions: the first index of each part after the first
-- @param axis along which axis
-- @usage print(mlax.range(1, 4):split(2, 1))   --> int32[2] [1 2] int32[2] [3 4]

--- With elements around it.
-- @function pad
-- @param x an array
-- @param widths one {before, after} an axis
-- @param[opt] options {mode = "constant", "edge" or "reflect", value = 0}
-- @usage print(mlax.array{1, 2}:pad{{1, 2}})   --> float32[5] [0 1 2 0 0]

--- Reversed.
-- @function flip
-- @param x an array
-- @param[opt] axis along which axes; left out, all
-- @usage print(mlax.array{1, 2, 3}:flip())   --> float32[3] [3 2 1]

--- Shifted, what falls off the end comes in at the beginning.
-- @function roll
-- @param x an array
-- @param shift by how many
-- @param axis along which axis
-- @usage print(mlax.array{1, 2, 3}:roll(1, 1))   --> float32[3] [3 1 2]

--- Copies side by side.
-- @function tile
-- @param x an array
-- @param reps how many, one number an axis
-- @usage print(mlax.array{1, 2}:tile{2})   --> float32[4] [1 2 1 2]

--- Each element several times in a row.
-- @function repeat_
-- @param x an array
-- @param n how often
-- @param axis along which axis
-- @usage print(mlax.array{1, 2}:repeat_(2, 1))   --> float32[4] [1 1 2 2]

--- The lower triangle of the last two axes, zeros above.
-- @function tril
-- @param x an array
-- @param[opt] options {k = 0: the last diagonal that stays}
-- @usage print(mlax.ones{2, 2}:tril())   --> float32[2,2] [[1 0] [1 1]]

--- The upper triangle of the last two axes, zeros below.
-- @function triu
-- @param x an array
-- @param[opt] options {k = 0: the first diagonal that stays}
-- @usage print(mlax.ones{2, 2}:triu())   --> float32[2,2] [[1 1] [0 1]]

--- The diagonal of a matrix, or the matrix with that diagonal.
-- @function diag
-- @param x an array
-- @param[opt] options {k = 0: which diagonal, above (> 0) or below the main one}
-- @usage print(mlax.array{1, 2}:diag())   --> float32[2,2] [[1 0] [0 2]]

--- In another dtype. Floats to integers cut towards 0 and saturate, NaN gives 0; integers to integers wrap.
-- @function astype
-- @param x an array
-- @param dtype its name
-- @usage print(mlax.array{1.9, -1.9}:astype("int32"))   --> int32[2] [ 1 -1]

--- The same bytes as another dtype; a narrower one adds a last axis, a wider one removes it.
-- @function bitcast
-- @param x an array
-- @param dtype its name
-- @usage print(mlax.array{1}:bitcast("uint32"))   --> uint32[1] [1065353216]
