--- mlax.lua FOLDER: mlax's half of test-interop: reads the py.* files that peer.py wrote, compares them with the same arrays made here, and
-- writes these as lua.* files.
local mlax = require "mlax"

local folder = arg[1]
local dtypes = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"}
local shapes = {{}, {1}, {7}, {0}, {2, 3}, {3, 0, 2}, {2, 3, 4}, {2, 1, 3, 2}}

local own = {}
for _, dtype in ipairs(dtypes) do
  for i, shape in ipairs(shapes) do
    local n = 1
    for _, d in ipairs(shape) do n = n * d end
    local x = (mlax.range(1, n) - 1) * 37 % 101
    if dtype == "bool" then x = (x % 2):eq(1) else x = x:astype(dtype) end
    own[("%s.%d"):format(dtype, i - 1)] = x:reshape(shape)
  end
end
own["float32.special"] = mlax.array({0x7f800000, 0xff800000, 0x7fc00000, 0x80000000, 1}, "uint32"):bitcast("float32")
own["int64.special"] = mlax.array({math.mininteger, math.maxinteger}, "int64")
own['é "\\ \n'] = mlax.array{1.5}

local count = 0
local function same(name, want, got)
  assert(got, name .. " is missing")
  assert(mlax.tree.equal(want, got), name .. ": " .. tostring(got))
  count = count + 1
end

local names = {}
for name in io.lines(folder .. "/names") do names[#names + 1] = name end

local got = assert(mlax.load(folder .. "/py.safetensors"))
for name, want in pairs(own) do same(name, want, got[name]) end
same("with metadata", mlax.ones{2, 2}, assert(mlax.load(folder .. "/py.metadata.safetensors")).x)
for _, file in ipairs{"py.npz", "py.compressed.npz"} do
  got = assert(mlax.io.npz.load(folder .. "/" .. file))
  for _, name in ipairs(names) do same(file .. " " .. name, own[name], got[name]) end
end
for _, name in ipairs(names) do
  for _, kind in ipairs{"", ".fortran", ".big"} do
    same(name .. kind, own[name], assert(mlax.io.npy.load(("%s/py.%s%s.npy"):format(folder, name, kind))))
  end
end
print(("read by mlax: %d arrays"):format(count))

local plain = {}
for _, name in ipairs(names) do plain[name] = own[name] end
assert(mlax.save(folder .. "/lua.safetensors", own))
assert(mlax.save(folder .. "/lua.bfloat16.safetensors", {x = mlax.ones({3}, "bfloat16")}))
assert(mlax.io.npz.save(folder .. "/lua.npz", plain))
assert(mlax.io.npz.save(folder .. "/lua.compressed.npz", plain, {compress = true}))
for name, x in pairs(plain) do assert(mlax.io.npy.save(("%s/lua.%s.npy"):format(folder, name), x)) end
