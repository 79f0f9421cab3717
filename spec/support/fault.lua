--- Failing allocations for specs.
--
--     local fault = require "spec.support.fault"
--     fault.sweep(function() return x:sum() end)
--
-- sweep calls f with the first allocation failing (Lua's and the engine's are counted together), with the second, ... until none is
-- left to fail; then so that all from the n-th on fail. It raises where an error says nothing of memory and where bytes are lost, and
-- returns the number of calls. f runs twice before, to fill caches. Needs build/tests/lua/fault.so, which `make ctests` builds.
require "mlax"

local built, fault = pcall(require, "fault")
return built and fault
