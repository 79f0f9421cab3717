-- A training that is killed again and again ends with the same bytes as one that is left alone.
local STEPS, KILLS = 2000, 50
local program = os.getenv("MLAX") or "build/mlax"

local function bytes_of(name)
  local file <close> = assert(io.open(name, "rb"))
  return file:read("a")
end

local function start(folder, every)
  return assert(io.popen(("exec %s spec/support/resume.lua '%s' %d %d 2>&1"):format(program, folder, STEPS, every)))
end

-- Runs to the end; raises with what the process printed if it did not come that far.
local function finish(folder, every)
  local process = start(folder, every)
  local output = process:read("a")
  assert(process:close(), output)
end

local runs_here = io.open("/proc/self/stat") and io.open(program)
local describe_killed = runs_here and describe or pending

describe_killed("a training that is killed", function()
  it("goes on from the last whole checkpoint, to the same bytes", function()
    local folder = os.tmpname()
    os.remove(folder)
    local last = ("step-%08d.safetensors"):format(STEPS)
    finish(folder .. "1", STEPS)
    local seed = 12345
    for i = 1, KILLS do
      local process = start(folder .. "2", 1)
      local first = process:read("l")
      local pid = math.tointeger(tonumber(first))
      assert(pid, ("run %d ended too early: %s"):format(i, first))
      seed = seed * 1103515245 + 12345 & 0x7fffffff
      os.execute(("sleep %.4f; kill -9 %d"):format(seed / 0x7fffffff * 0.01, pid))
      process:close()
    end
    finish(folder .. "2", STEPS)
    assert.is_true(bytes_of(folder .. "1/" .. last) == bytes_of(folder .. "2/" .. last))
    os.execute(("rm -rf '%s1' '%s2'"):format(folder, folder))
  end)
end)
