--- MaxPool: the greatest element of each window.
local mlax = require "mlax"
local check = require "mlax.check"
local pool = require "mlax.nn.pool"

local MaxPool = mlax.class("MaxPool")

--- nn.MaxPool(window_shape, options)
-- @param window_shape a number for all spatial axes, or a list
-- @param options those of nn.functional.max_pool
-- @usage print(mlax.vmap(nn.MaxPool(2, {strides = 2}))(mlax.ones{8, 28, 28, 3}):dims())   --> 8 14 14 3
function MaxPool:init(window_shape, options, ...)
  pool.keep(self, "MaxPool", window_shape, check.options("MaxPool", options, pool.known, ...))
end

--- Nothing to make.
function MaxPool:setup() end

--- One example -> its windows.
function MaxPool:forward(x) return pool.max("MaxPool", x, self.window_shape, pool.options(self)) end

return MaxPool
