--- mnist(dir): the four IDX files of MNIST, or of a data set of the same form (Fashion-MNIST), plain or gzip.
local core = require "mlax.core"
local check = require "mlax.check"
local dataset = require "mlax.data.dataset"

-- The array in dir/name or dir/name.gz.
local function read(dir, name)
  local x, message = core.read_idx(dir .. "/" .. name)
  if x then return x end
  local zipped = core.read_idx(dir .. "/" .. name .. ".gz")
  if zipped then return zipped end
  return nil, message
end

local function part(dir, prefix)
  local x, y, message
  x, message = read(dir, prefix .. "-images-idx3-ubyte")
  if not x then return nil, message end
  y, message = read(dir, prefix .. "-labels-idx1-ubyte")
  if not y then return nil, message end
  if x.ndim ~= 3 or y.ndim ~= 1 or #x ~= #y then
    return nil, ("%s/%s: images %s and labels %s do not fit"):format(dir, prefix, check.show(x), check.show(y))
  end
  local classes = {}
  for d = 0, 9 do classes[d + 1] = tostring(d) end
  return dataset{x = x, y = y:astype("int32") + 1, classes = classes}
end

--- train, test = mnist(dir)
-- Fields: x uint8[n,28,28], y int32[n]: label d + 1 for digit d, classes {"0", ..., "9"}.
-- @function mnist
-- @param dir where the four files are
-- @return two datasets; nil, message where a file is missing or malformed
-- @usage local train, message = data.mnist("no-such-folder")
-- print(train, message)   --> nil cannot open 'no-such-folder/train-images-idx3-ubyte': No such file or directory
return function(dir, ...)
  check.last("mnist", ...)
  if type(dir) ~= "string" then check.fail("mnist", "dir must be a string (got %s)", check.show(dir)) end
  local train, test, message
  train, message = part(dir, "train")
  if not train then return nil, message end
  test, message = part(dir, "t10k")
  if not test then return nil, message end
  return train, test
end
