--- mlax.io: NumPy's files. `npy` holds one array, `npz` (a zip archive of npy files) arrays by name.
--
-- Files are written as mlax.save writes them: the old one or the new one is there, whole. NumPy has no bfloat16.
local core = require "mlax.core"
local archive = require "mlax.archive"
local check = require "mlax.check"

local npy, npz = {}, {}

local function check_string(op, what, s)
  if type(s) ~= "string" then check.fail(op, "%s must be a string (got %s)", what, check.show(s)) end
  return s
end

--- Reads a .npy file, of either byte order, row-major or column-major.
-- @return an array; nil, message
-- @usage print(mlax.io.npy.load("no-such-file"))   --> nil cannot open 'no-such-file': No such file or directory
function npy.load(path, ...)
  check.last("npy.load", ...)
  return core.read_npy(check_string("npy.load", "path", path))
end

--- The same of a string that holds such a file.
-- @usage print(mlax.io.npy.load_bytes("no such thing"))   --> nil bytes: this is no npy file
function npy.load_bytes(bytes, ...)
  check.last("npy.load_bytes", ...)
  return core.read_npy_bytes(check_string("npy.load_bytes", "bytes", bytes))
end

--- Writes an array to a .npy file.
-- @return true; nil, message
-- @usage local name = os.tmpname()
-- assert(mlax.io.npy.save(name, mlax.array{{1, 2}, {3, 4}}))
-- print(mlax.io.npy.load(name))   --> float32[2,2] [[1 2] [3 4]]
-- os.remove(name)
function npy.save(path, x, ...)
  check.last("npy.save", ...)
  return core.write_npy(check_string("npy.save", "path", path), check.array("npy.save", "x", x))
end

--- Reads a .npz file, plain or compressed.
-- @return a table of arrays by name; nil, message
-- @usage print(mlax.io.npz.load("no-such-file"))   --> nil cannot open 'no-such-file': No such file or directory
function npz.load(path, ...)
  check.last("npz.load", ...)
  return archive.all(core.open_npz(check_string("npz.load", "path", path)))
end

--- The same of a string that holds such a file.
-- @usage print(mlax.io.npz.load_bytes("no such thing"))   --> nil bytes: this is no sound zip archive: it is too short
function npz.load_bytes(bytes, ...)
  check.last("npz.load_bytes", ...)
  return archive.all(core.open_npz_bytes(check_string("npz.load_bytes", "bytes", bytes)))
end

--- Writes a table of arrays to a .npz file, in the order of their names.
-- @param path a string
-- @param arrays {name = array}
-- @param options {compress = false}
-- @return true; nil, message
-- @usage local name = os.tmpname()
-- assert(mlax.io.npz.save(name, {x = mlax.zeros{2}, y = mlax.ones{1}}, {compress = true}))
-- local arrays = mlax.io.npz.load(name)
-- os.remove(name)
-- print(arrays.x, arrays.y)   --> float32[2] [0 0] float32[1] [1]
function npz.save(path, arrays, options, ...)
  local o = check.options("npz.save", options, "compress", ...)
  check_string("npz.save", "path", path)
  if type(arrays) ~= "table" then check.fail("npz.save", "a table of arrays by name is needed (got %s)", check.show(arrays)) end
  local names, list = {}, {}
  for name in pairs(arrays) do
    if type(name) ~= "string" or not utf8.len(name) then
      check.fail("npz.save", "arrays need names of UTF-8 text (got %s)", check.show(name))
    end
    names[#names + 1] = name
  end
  table.sort(names)
  for i, name in ipairs(names) do list[i] = check.array("npz.save", name, arrays[name]) end
  return core.write_npz(path, names, list, o.compress == true)
end

return {npy = npy, npz = npz}
