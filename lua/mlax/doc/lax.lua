--- mlax.lax: the operations under others, with every choice they have.
-- @module mlax.lax

--- A product over any axes: sums over `contract`, side by side over `batch`. The result has the batch axes, then the rest of x, then that
-- of y.
-- @function dot_general
-- @param x an array
-- @param y an array
-- @param options {contract = {axes of x, axes of y}, batch = {axes of x, axes of y}, accum_dtype of the sums and the result}
-- @usage print(mlax.lax.dot_general(mlax.ones{2, 3}, mlax.ones{4, 3}, {contract = {{2}, {2}}}):dims())   --> 2 4

--- A convolution, which does not turn the kernel around.
-- @function conv
-- @param x a batch of examples
-- @param kernel as the second spec of dimension_numbers says
-- @param[opt] options {strides = 1, padding = "VALID", "SAME", "SAME_LOWER", n or {{before, after}, ...}, input_dilation = 1,
-- filter_dilation = 1, dimension_numbers = {"NHWC", "OHWI", "NHWC"}, feature_group_count = 1, batch_group_count = 1, accum_dtype}; a
-- number stands for all spatial axes
-- @usage print(mlax.lax.conv(mlax.ones{1, 5, 5, 2}, mlax.ones{3, 3, 3, 2}, {padding = "SAME"}):dims())   --> 1 5 5 3

--- The elements of each window reduced to one.
-- @function reduce_window
-- @param x an array
-- @param init what each window begins with
-- @param op "max", "sum", "min" or "prod"
-- @param options {window, strides = 1, padding = "VALID", input_dilation = 1, window_dilation = 1}, one entry an axis of x, or a number
-- for all
-- @usage print(mlax.lax.reduce_window(mlax.array{1, 5, 2, 4}, -math.huge, "max", {window = 2, strides = 2}))   --> float32[2] [5 4]

--- x, which counts as constant under differentiation.
-- @function stop_gradient
-- @param x an array
-- @usage print(mlax.grad(function(x) return x * mlax.lax.stop_gradient(x) end)(3.0))   --> float32[] 3

--- The next float from x towards y.
-- @function nextafter
-- @param x an array
-- @param y an array or a number
-- @usage print(mlax.lax.nextafter(mlax.array{1}, 2):gt(1))   --> bool[1] [true]

--- The n-th derivative of digamma.
-- @function polygamma
-- @param n from 0
-- @param x an array, or a number
-- @usage print(mlax.lax.polygamma(1, mlax.array{1}))   --> float32[1] [1.64493]

--- How the logarithm of a gamma variable moves with its parameter, at a fixed quantile: -(dF/da) / (dF/d ln x), F the distribution
-- function. Implicit reparametrisation (Figurnov, Mohamed, Mnih 2018), which makes `random.gamma` differentiable.
-- @function loggamma_grad
-- @param a the parameter, > 0
-- @param log_x the logarithm of the variable
-- @usage print(mlax.allclose(mlax.lax.loggamma_grad(mlax.array{1}, 0), 1.1736, {rtol = 1e-4}))   --> bool[] true

--- The bits that both have; what `x & y` calls.
-- @function and
-- @param x integers or booleans
-- @param y the same
-- @usage print(mlax.lax["and"](mlax.array({6, 3}, "int32"), 2))   --> int32[2] [2 2]

--- The bits that one has; what `x | y` calls.
-- @function or
-- @param x integers or booleans
-- @param y the same
-- @usage print(mlax.lax["or"](mlax.array({6, 3}, "int32"), 8))   --> int32[2] [14 11]

--- The bits in which they differ; what `x ~ y` calls.
-- @function xor
-- @param x integers or booleans
-- @param y the same
-- @usage print(mlax.lax.xor(mlax.array({6, 3}, "int32"), 1))   --> int32[2] [7 2]

--- x shifted left by y bits; what `x << y` calls.
-- @function shift_left
-- @param x integers or booleans
-- @param y the same
-- @usage print(mlax.lax.shift_left(mlax.array({6, 3}, "int32"), 1))   --> int32[2] [12 6]

--- x shifted right by y bits, signed integers keep their sign; what `x >> y` calls.
-- @function shift_right
-- @param x integers or booleans
-- @param y the same
-- @usage print(mlax.lax.shift_right(mlax.array({6, 3}, "int32"), 1))   --> int32[2] [3 1]

--- All bits the other way; what `~x` calls.
-- @function not
-- @param x integers or booleans
-- @usage print(mlax.lax["not"](mlax.array({6, 3}, "int32")))   --> int32[2] [-7 -4]
