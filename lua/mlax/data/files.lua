--- Readers of data files. A file that cannot be opened or is malformed gives nil and a message.
local core = require "mlax.core"
local check = require "mlax.check"

local files = {}

local function path_of(op, path)
  if type(path) ~= "string" then check.fail(op, "path must be a string (got %s)", check.show(path)) end
  return path
end

--- idx(path): an IDX file (MNIST's format), plain or gzip.
-- @return an array with the shape and dtype that the file says; nil, message
-- @usage print(data.idx("no-such-file"))   --> nil cannot open 'no-such-file': No such file or directory
function files.idx(path, ...)
  check.last("idx", ...)
  return core.read_idx(path_of("idx", path))
end

--- csv(path, options): a table of numbers, plain or gzip.
-- @param options {header: whether the first line holds names (default: it does if it holds no numbers), separator = ",", skip = lines
--   to leave out first, classes = the column of names to be numbered from 1, dtype = "float32", missing = the value of an empty cell}
-- @return an array {rows, columns}, the list of names or nil, the list of classes or nil; nil, message
-- @usage local name = os.tmpname()
-- local file = assert(io.open(name, "w"))
-- file:write("length,width\n1,2\n3,4\n")
-- file:close()
-- local x, names = data.csv(name)
-- os.remove(name)
-- print(x, names[1])   --> float32[2,2] [[1 2] [3 4]] length
function files.csv(path, options, ...)
  local o = check.options("csv", options, "header separator skip classes dtype missing", ...)
  return core.read_csv(path_of("csv", path), o)
end

--- The bytes of a file that belongs to mlax: embedded, or beside these sources. nil, message where it is missing.
function files.own(name)
  local bytes = core.embedded("mlax/data/" .. name)
  if bytes then return bytes end
  local directory = debug.getinfo(1, "S").source:match("^@(.*)files%.lua$") or ""
  local file, message = io.open(directory .. name, "rb")
  if not file then return nil, message end
  bytes = file:read("a")
  file:close()
  return bytes
end

return files
