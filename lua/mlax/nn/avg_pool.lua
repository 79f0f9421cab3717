--- AvgPool: the mean of each window.
local mlax = require "mlax"
local check = require "mlax.check"
local pool = require "mlax.nn.pool"

local AvgPool = mlax.class("AvgPool")

--- nn.AvgPool(window_shape, options)
-- @param window_shape a number for all spatial axes, or a list
-- @param options those of nn.functional.avg_pool
-- @usage print(mlax.vmap(nn.AvgPool(2, {strides = 2}))(mlax.ones{8, 28, 28, 3}):dims())   --> 8 14 14 3
function AvgPool:init(window_shape, options, ...)
  pool.keep(self, "AvgPool", window_shape, check.options("AvgPool", options, pool.known, ...))
end

--- Nothing to make.
function AvgPool:setup() end

--- One example -> its windows.
function AvgPool:forward(x) return pool.avg("AvgPool", x, self.window_shape, pool.options(self)) end

return AvgPool
