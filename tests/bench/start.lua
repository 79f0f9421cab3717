-- start.lua: from the start of the process to a first result, and the memory that takes.
local bench = dofile((arg[0]:match("^(.*)/") or ".") .. "/support/bench.lua")
local mlax = require "mlax"

bench.add("start", function()
  return function() return (mlax.ones{3} + 1):totable() end
end, {steady = false})

bench.run()
