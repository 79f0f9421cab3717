--- Functions of each element. Each is a function of mlax and a method: `mlax.sin(x)` is `x:sin()`. Operands broadcast; dtypes are promoted
-- as section "Arrays" of the README says; those whose result is no integer turn integers and booleans into float32.
-- @module mlax.elementwise

--- The absolute value. Its gradient at 0 is 0.
-- @function abs
-- @param x an array, or a number
-- @usage print(mlax.abs(mlax.array{-2, 0, 3}))   --> float32[3] [2 0 3]

--- -1, 0 or 1; NaN of NaN.
-- @function sign
-- @param x an array, or a number
-- @usage print(mlax.sign(mlax.array{-2, 0, 3}))   --> float32[3] [-1 0 1]

--- -x.
-- @function neg
-- @param x an array, or a number
-- @usage print(mlax.neg(mlax.array{1, -2}))   --> float32[2] [-1 2]

--- e to the power x.
-- @function exp
-- @param x an array, or a number
-- @usage print(mlax.exp(mlax.array{0, 1}))   --> float32[2] [1.00000 2.71828]

--- 2 to the power x.
-- @function exp2
-- @param x an array, or a number
-- @usage print(mlax.exp2(mlax.array{0, 3}))   --> float32[2] [1 8]

--- e^x - 1, exact for small x.
-- @function expm1
-- @param x an array, or a number
-- @usage print(mlax.expm1(mlax.array{0, 1e-6}))   --> float32[2] [0e+00 1e-06]

--- The natural logarithm: -inf of 0, NaN below.
-- @function log
-- @param x an array, or a number
-- @usage print(mlax.log(mlax.array{1, 10}))   --> float32[2] [0.00000 2.30259]

--- The logarithm to base 2.
-- @function log2
-- @param x an array, or a number
-- @usage print(mlax.log2(mlax.array{1, 8}))   --> float32[2] [0 3]

--- log(1 + x), exact for small x.
-- @function log1p
-- @param x an array, or a number
-- @usage print(mlax.log1p(mlax.array{0, 1e-6}))   --> float32[2] [0e+00 1e-06]

--- The square root; NaN below 0.
-- @function sqrt
-- @param x an array, or a number
-- @usage print(mlax.sqrt(mlax.array{4, 9}))   --> float32[2] [2 3]

--- 1 / sqrt(x).
-- @function rsqrt
-- @param x an array, or a number
-- @usage print(mlax.rsqrt(mlax.array{4, 16}))   --> float32[2] [0.50 0.25]

--- The cube root, of negative numbers too.
-- @function cbrt
-- @param x an array, or a number
-- @usage print(mlax.cbrt(mlax.array{8, -27}))   --> float32[2] [ 2 -3]

--- x * x.
-- @function square
-- @param x an array, or a number
-- @usage print(mlax.square(mlax.array{2, -3}))   --> float32[2] [4 9]

--- 1 / x.
-- @function reciprocal
-- @param x an array, or a number
-- @usage print(mlax.reciprocal(mlax.array{2, 4}))   --> float32[2] [0.50 0.25]

--- The sine of radians.
-- @function sin
-- @param x an array, or a number
-- @usage print(mlax.sin(mlax.array{0, math.pi / 2}))   --> float32[2] [0 1]

--- The cosine of radians.
-- @function cos
-- @param x an array, or a number
-- @usage print(mlax.cos(mlax.array{0, math.pi}))   --> float32[2] [ 1 -1]

--- The tangent of radians.
-- @function tan
-- @param x an array, or a number
-- @usage print(mlax.tan(mlax.array{0, math.pi / 4}))   --> float32[2] [0 1]

--- The arc sine, in [-pi / 2, pi / 2]; NaN outside [-1, 1].
-- @function asin
-- @param x an array, or a number
-- @usage print(mlax.asin(mlax.array{0, 1}))   --> float32[2] [0.0000 1.5708]

--- The arc cosine, in [0, pi]; NaN outside [-1, 1].
-- @function acos
-- @param x an array, or a number
-- @usage print(mlax.acos(mlax.array{1, 0}))   --> float32[2] [0.0000 1.5708]

--- The arc tangent, in (-pi / 2, pi / 2).
-- @function atan
-- @param x an array, or a number
-- @usage print(mlax.atan(mlax.array{0, 1}))   --> float32[2] [0.000000 0.785398]

--- The hyperbolic sine.
-- @function sinh
-- @param x an array, or a number
-- @usage print(mlax.sinh(mlax.array{0, 1}))   --> float32[2] [0.0000 1.1752]

--- The hyperbolic cosine.
-- @function cosh
-- @param x an array, or a number
-- @usage print(mlax.cosh(mlax.array{0, 1}))   --> float32[2] [1.00000 1.54308]

--- The hyperbolic tangent.
-- @function tanh
-- @param x an array, or a number
-- @usage print(mlax.tanh(mlax.array{0, 1}))   --> float32[2] [0.000000 0.761594]

--- The inverse of sinh.
-- @function asinh
-- @param x an array, or a number
-- @usage print(mlax.asinh(mlax.array{0, 1}))   --> float32[2] [0.000000 0.881374]

--- The inverse of cosh, from 1 on.
-- @function acosh
-- @param x an array, or a number
-- @usage print(mlax.acosh(mlax.array{1, 2}))   --> float32[2] [0.00000 1.31696]

--- The inverse of tanh, in (-1, 1).
-- @function atanh
-- @param x an array, or a number
-- @usage print(mlax.atanh(mlax.array{0, 0.5}))   --> float32[2] [0.000000 0.549306]

--- 1 / (1 + exp(-x)).
-- @function sigmoid
-- @param x an array, or a number
-- @usage print(mlax.sigmoid(mlax.array{0, 2}))   --> float32[2] [0.500000 0.880797]

--- The error function.
-- @function erf
-- @param x an array, or a number
-- @usage print(mlax.erf(mlax.array{0, 1}))   --> float32[2] [0.000000 0.842701]

--- 1 - erf(x), exact for large x.
-- @function erfc
-- @param x an array, or a number
-- @usage print(mlax.erfc(mlax.array{0, 1}))   --> float32[2] [1.00000 0.15730]

--- The inverse of erf, in (-1, 1).
-- @function erf_inv
-- @param x an array, or a number
-- @usage print(mlax.erf_inv(mlax.array{0, 0.5}))   --> float32[2] [0.000000 0.476936]

--- The logarithm of the absolute value of the gamma function.
-- @function lgamma
-- @param x an array, or a number
-- @usage print(mlax.lgamma(mlax.array{1, 5}))   --> float32[2] [0.00000 3.17805]

--- The derivative of lgamma.
-- @function digamma
-- @param x an array, or a number
-- @usage print(mlax.digamma(mlax.array{1, 2}))   --> float32[2] [-0.577216 0.422784]

--- The greatest integer that is not above x.
-- @function floor
-- @param x an array, or a number
-- @usage print(mlax.floor(mlax.array{1.5, -1.5}))   --> float32[2] [ 1 -2]

--- The least integer that is not below x.
-- @function ceil
-- @param x an array, or a number
-- @usage print(mlax.ceil(mlax.array{1.5, -1.5}))   --> float32[2] [ 2 -1]

--- The nearest integer, of two the even one.
-- @function round
-- @param x an array, or a number
-- @usage print(mlax.round(mlax.array{0.5, 1.5, 2.4}))   --> float32[3] [0 2 2]

--- The integer part, towards 0.
-- @function trunc
-- @param x an array, or a number
-- @usage print(mlax.trunc(mlax.array{1.5, -1.5}))   --> float32[2] [ 1 -1]

--- Whether elements are NaN (bool).
-- @function isnan
-- @param x an array, or a number
-- @usage print(mlax.isnan(mlax.array{1, 0 / 0}))   --> bool[2] [false true]

--- Whether elements are infinite (bool).
-- @function isinf
-- @param x an array, or a number
-- @usage print(mlax.isinf(mlax.array{1, math.huge}))   --> bool[2] [false true]

--- Whether elements are neither NaN nor infinite (bool).
-- @function isfinite
-- @param x an array, or a number
-- @usage print(mlax.isfinite(mlax.array{1, math.huge, 0 / 0}))   --> bool[3] [ true false false]

--- Whether elements are 0 or false (bool).
-- @function logical_not
-- @param x an array, or a number
-- @usage print(mlax.logical_not(mlax.array{true, false}))   --> bool[2] [false true]

--- x + y.
-- @function add
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.add(mlax.array{1, 2}, 10))   --> float32[2] [11 12]

--- x - y.
-- @function sub
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.sub(mlax.array{1, 2}, 10))   --> float32[2] [-9 -8]

--- x * y.
-- @function mul
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.mul(mlax.array{1, 2}, mlax.array{{10}, {20}}))   --> float32[2,2] [[10 20] [20 40]]

--- x / y, a float: of integers too.
-- @function div
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.div(mlax.array({1, 3}, "int32"), 2))   --> float32[2] [0.5 1.5]

--- x ^ y. Integers give an integer; a negative Lua integer as their exponent raises.
-- @function pow
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.pow(mlax.array{2, 3}, 2))   --> float32[2] [4 9]

--- x % y, with the sign of y as in Lua; of integers x % 0 gives some value and never traps.
-- @function mod
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.mod(mlax.array{5, -5}, 3))   --> float32[2] [2 1]

--- x // y, rounded down; of floats floor(x / y).
-- @function floordiv
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.floordiv(mlax.array{5, -5}, 3))   --> float32[2] [ 1 -2]

--- The angle of the point (y, x), in (-pi, pi].
-- @function atan2
-- @param y the second coordinate, an array or a number
-- @param x the first, which broadcasts with it
-- @usage print(mlax.atan2(mlax.array{1, -1}, mlax.array{0, -1}))   --> float32[2] [ 1.57080 -2.35619]

--- The greater of two; NaN where one is. Equal ones share the gradient.
-- @function maximum
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.maximum(mlax.array{1, 5}, 3))   --> float32[2] [3 5]

--- The lesser of two; NaN where one is. Equal ones share the gradient.
-- @function minimum
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.minimum(mlax.array{1, 5}, 3))   --> float32[2] [1 3]

--- sqrt(x^2 + y^2), without overflow in between.
-- @function hypot
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.hypot(mlax.array{3}, 4))   --> float32[1] [5]

--- x with the sign of y.
-- @function copysign
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.copysign(mlax.array{3, -3}, -1))   --> float32[2] [-3 -3]

--- log(exp(x) + exp(y)), without overflow in between.
-- @function logaddexp
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.logaddexp(mlax.array{0, 1000}, mlax.array{0, 1000}))   --> float32[2] [ 0.69 1000.69]

--- Whether elements are equal (bool).
-- @function eq
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.eq(mlax.array{1, 2, 3}, 2))   --> bool[3] [false true false]

--- Whether elements are different (bool).
-- @function ne
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.ne(mlax.array{1, 2, 3}, 2))   --> bool[3] [ true false true]

--- Whether x < y (bool).
-- @function lt
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.lt(mlax.array{1, 2, 3}, 2))   --> bool[3] [ true false false]

--- Whether x <= y (bool).
-- @function le
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.le(mlax.array{1, 2, 3}, 2))   --> bool[3] [ true true false]

--- Whether x > y (bool).
-- @function gt
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.gt(mlax.array{1, 2, 3}, 2))   --> bool[3] [false false true]

--- Whether x >= y (bool).
-- @function ge
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.ge(mlax.array{1, 2, 3}, 2))   --> bool[3] [false true true]

--- Whether both are true, or not 0 (bool).
-- @function logical_and
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.logical_and(mlax.array{true, true}, mlax.array{true, false}))   --> bool[2] [ true false]

--- Whether one is true, or not 0 (bool).
-- @function logical_or
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.logical_or(mlax.array{false, true}, false))   --> bool[2] [false true]

--- Whether one is true and the other is not (bool).
-- @function logical_xor
-- @param x an array, or a number
-- @param y an array or a number that broadcasts with it
-- @usage print(mlax.logical_xor(mlax.array{false, true}, true))   --> bool[2] [ true false]

--- x where c is true, else y. Both are computed.
-- @function where
-- @param c a bool array
-- @param x an array or a number
-- @param y an array or a number; all three broadcast
-- @usage print(mlax.where(mlax.array{true, false}, mlax.array{1, 2}, 0))   --> float32[2] [1 0]

--- x between lo and hi; a bound may be nil.
-- @function clip
-- @param x an array
-- @param lo the least value: a number or an array
-- @param hi the greatest value
-- @usage print(mlax.clip(mlax.array{-1, 0.5, 7}, 0, 1))   --> float32[3] [0.0 0.5 1.0]
