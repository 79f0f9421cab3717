--- What Bias and Scaler share: a kernel that lies along some of the last axes of the input, described by a list with one entry an axis:
-- 0 (no axis of the kernel), 1 (an axis of length 1), -1 (as long as the input's) or that length.
local check = require "mlax.check"

local last_axes = {}

--- The list of a constructor's `in_features`, checked.
function last_axes.features(op, in_features)
  if type(in_features) ~= "table" then in_features = {in_features} end
  local list = {}
  for i = 1, #in_features do
    list[i] = check.int(op, ("in_features[%d]"):format(i), in_features[i], -1)
  end
  return list
end

-- The length of the input's axis that entry i describes, after a check that they fit.
local function length_at(op, features, shape, i)
  local length, wanted = shape[#shape - #features + i], features[i]
  if wanted > 1 and wanted ~= length then
    check.fail(op, "in_features {%s} do not fit the last axes of the input (got {%s})", table.concat(features, ", "),
      table.concat(shape, ", "))
  end
  return wanted == -1 and length or wanted
end

-- The kernel's shape, and the one in which it lines up with the last axes of the input.
local function shapes(op, features, x)
  local shape = x.shape
  if #shape < #features then
    check.fail(op, "the input needs at least %d axes, one for each of in_features (got %s)", #features, check.show(x))
  end
  local kernel, aligned = {}, {}
  for i = 1, #features do
    local length = length_at(op, features, shape, i)
    aligned[i] = features[i] == 0 and 1 or length
    if features[i] ~= 0 then kernel[#kernel + 1] = length end
  end
  return kernel, aligned
end

--- The shape of the kernel for an input.
function last_axes.shape(op, features, x) return (shapes(op, features, x)) end

--- The kernel in the dtype of x, and in a shape that broadcasts against its last axes.
function last_axes.aligned(op, features, x, kernel)
  local need, aligned = shapes(op, features, x)
  if table.concat(need, ",") ~= table.concat(kernel.shape, ",") then
    check.fail(op, "the input does not fit the kernel, in_features {%s} of its last axes (got %s, kernel %s)", table.concat(features, ", "),
      check.show(x), check.show(kernel))
  end
  return kernel:astype(x.dtype):reshape(aligned)
end

return last_axes
