--- Devices, memory, threads and messages.
-- @module mlax.system

--- The devices of this machine as a list of texts: name, instruction set, threads, BLAS.
-- @function devices
-- @usage print(mlax.devices()[1]:match("^%w+"))   --> cpu

--- A copy of a tree on a device.
-- @function device_put
-- @param x an array or a tree
-- @param device its name: "cpu"
-- @usage print(mlax.device_put(mlax.ones{1}, "cpu").device)   --> cpu

--- The device on which new arrays are made; with a name, sets it.
-- @function default_device
-- @param[opt] device its name
-- @usage print(mlax.default_device())   --> cpu

--- What arrays hold: {live, peak, limit} in bytes.
-- @function memory
-- @usage print(mlax.memory().live >= 0)   --> true

--- The most bytes that arrays may hold together; beyond, operations raise.
-- @function set_memory_limit
-- @param bytes an integer; 0 is no limit
-- @usage mlax.set_memory_limit(1 << 40)
-- mlax.set_memory_limit(0)
-- print(mlax.memory().limit)   --> 0

--- An object that frees, where it is closed, the arrays made while it was open, except those of `s:keep(tree)`, which gives the tree
-- back.
-- @function scope
-- @usage local y
-- do
--   local s <close> = mlax.scope()
--   y = s:keep(mlax.ones{2} * 3)
-- end
-- print(y)   --> float32[2] [3 3]

--- How many threads compute; with a number, sets it.
-- @function threads
-- @param[opt] n a number
-- @usage print(mlax.threads() >= 1)   --> true

--- Whether results have the same bits for any number of threads; with a boolean, sets it.
--
-- It costs nothing on the CPU: its kernels add in an order that depends on lengths alone, however many threads share the work. A device
-- that has faster sums may use them only while this is off.
-- @function deterministic
-- @param[opt] on a boolean
-- @usage mlax.deterministic(true)
-- print(mlax.deterministic())   --> true
-- mlax.deterministic(false)

--- How arrays print.
-- @function print_options
-- @param options {precision = digits behind the point, edge = how many elements at each end of a long axis}
-- @usage mlax.print_options{precision = 2}
-- print(mlax.array{1 / 3})   --> float32[1] [0.33]
-- mlax.print_options{precision = 6}

--- The Lua stack of the first raise of an error that passed through a transformation.
-- @function traceback
-- @param err what pcall gave
-- @usage local ok, err = pcall(mlax.grad(function(x) error("here") end), 1.0)
-- print(ok, type(mlax.traceback(err)))   --> false string
