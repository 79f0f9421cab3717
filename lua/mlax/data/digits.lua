--- digits(): 1,797 handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak, UCI 1998; the test half of "Optical Recognition of
-- Handwritten Digits"), embedded.
local core = require "mlax.core"
local mlax = require "mlax"
local check = require "mlax.check"
local dataset = require "mlax.data.dataset"
local files = require "mlax.data.files"

local TRAIN = 1437 -- four fifths

local function read()
  local bytes, message = files.own("digits.csv.gz")
  if not bytes then return nil, message end
  return core.read_csv_bytes(bytes, "digits.csv.gz")
end

--- train, test = digits()
-- Fields: x float32[n,8,8] from 0 to 1 (the file's 0 to 16, divided by 16), y int32[n]: label d + 1 for digit d, classes {"0", ..., "9"}.
-- The examples are split in the order permutation(key(0), 1797): the first 1,437 to train, the other 360 to test.
-- @usage local train, test = data.digits()
-- print(train, #test)   --> dataset of 1437: x = float32[1437,8,8], y = int32[1437] 360
return function(...)
  check.last("digits", ...)
  local rows, message = read()
  if not rows then return nil, message end
  local order = mlax.random.permutation(mlax.random.key(0), #rows)
  rows = rows:take(order, 1)
  local x = rows["..., 1:64"]:reshape{-1, 8, 8} / 16
  local y = rows["..., 65"]:astype("int32") + 1
  local classes = {}
  for d = 0, 9 do classes[d + 1] = tostring(d) end
  local function part(a, b) return dataset{x = x[{{a, b}}], y = y[{{a, b}}], classes = classes} end
  return part(1, TRAIN), part(TRAIN + 1, #rows)
end
