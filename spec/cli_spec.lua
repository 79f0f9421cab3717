-- The program `mlax`. MLAX names it (tests/run sets it); without it the one in build/ is taken.
local program = os.getenv("MLAX") or "build/mlax"

local function quoted(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

-- What it prints on both streams, and its exit status.
local function run(arguments, input)
  local command = ("%s %s 2>&1 </dev/null"):format(program, arguments)
  if input then command = ("printf %%s %s | %s %s 2>&1"):format(quoted(input), program, arguments) end
  local pipe = assert(io.popen(command))
  local text = pipe:read("a")
  local _, _, status = pipe:close()
  return text, status
end

local function run_code(code) return run("-e " .. quoted(code)) end

local function run_file(code, arguments)
  local path = os.tmpname()
  local f = assert(io.open(path, "w"))
  f:write(code)
  f:close()
  local text, status = run(path .. " " .. (arguments or ""))
  os.remove(path)
  return text:gsub(path:gsub("%p", "%%%0"), "FILE"), status
end

describe("mlax -e", function()
  it("has mlax as a global", function()
    assert.same({"float32[] 3\n", 0}, {run_code("print(mlax.ones{3}:sum())")})
  end)

  it("may be repeated, joined to its code, and followed by a script", function()
    assert.same({"12\n", 0}, {run("-e 'a = 1' -e 'b = 2' '-eprint(a .. b)'")})
    assert.same({"3\tx\n", 0}, {run("-e 'a = 3' - x", "print(a, ...)")})
  end)

  it("needs code", function()
    local text, status = run("-e")
    assert.matches("needs code", text)
    assert.equal(1, status)
  end)
end)

describe("mlax FILE", function()
  it("passes arguments to the chunk and in `arg`", function()
    assert.same({"a b\ta b\tFILE\n", 0}, {run_file("print(..., arg[1], arg[0])", "'a b'")})
  end)

  it("finds mlax by require, from inside", function()
    local text, status = run_file("package.path = ''; package.cpath = ''; print(require('mlax').zeros{2}.dtype, mlax)")
    assert.same({"float32\tnil\n", 0}, {text, status})
  end)

  it("runs standard input for -", function()
    assert.same({"7\n", 0}, {run("-", "print(7)")})
  end)

  it("ends with 1, message and traceback on an error", function()
    local text, status = run_file("local function f()\n  error('boom')\nend\nf()\n")
    assert.equal(1, status)
    assert.matches("mlax: FILE:2: boom\nstack traceback:", text, 1, true)
    assert.matches("FILE:4: in main chunk", text, 1, true)
  end)

  it("names the user's line, and shows no frame of mlax", function()
    local text, status = run_file("local mlax = require 'mlax'\nlocal function f(x)\n  return x:sum(3)\nend\nmlax.grad(f)(mlax.ones{2})\n")
    assert.equal(1, status)
    assert.matches("FILE:3: ", text, 1, true)
    assert.matches("FILE:5: ", text, 1, true)
    assert.is_nil(text:find("mlax:%w+/?%w*%.lua"))
  end)

  it("shows error values of any type", function()
    assert.matches("mlax: told", (run_file("error(setmetatable({}, {__tostring = function() return 'told' end}))")), 1, true)
    assert.matches("error object is a table value", (run_file("error({})")), 1, true)
    assert.matches("nil value", (run_file("error()")), 1, true)
  end)

  it("says which file cannot be opened", function()
    local text, status = run("/no/such/script.lua")
    assert.equal(1, status)
    assert.matches("/no/such/script.lua", text, 1, true)
    assert.is_nil(text:find("traceback", 1, true))
  end)
end)

describe("mlax", function()
  it("prints its version and its usage", function()
    assert.matches("^mlax %d+%.%d+%.%d+ %(Lua 5%.4", (run("-v")))
    local text, status = run("--help")
    assert.matches("usage: mlax", text, 1, true)
    assert.equal(0, status)
  end)

  it("refuses what it does not know, with its usage", function()
    local text, status = run("--frobnicate")
    assert.matches("unknown option '--frobnicate'\nusage:", text, 1, true)
    assert.equal(1, status)
  end)

  it("says what is not in this version, and ends with 1", function()
    for _, arguments in ipairs{"", "-i", "check f.lua"} do
      local text, status = run(arguments)
      assert.matches("not in this version", text, 1, true)
      assert.equal(1, status)
    end
  end)

  it("is interrupted by SIGINT, in Lua and in a computation", function()
    -- In the foreground timeout signals once, as a terminal does; otherwise twice, and the second one ends the program.
    for _, code in ipairs{"while true do end", "x = mlax.ones{64, 64}; while true do x = x:matmul(x) end"} do
      local pipe = assert(io.popen(("exec timeout --foreground -s INT 1 %s -e %s 2>&1"):format(program, quoted(code))))
      local text = pipe:read("a")
      pipe:close()
      assert.matches("interrupted", text, 1, true)
    end
  end)
end)
