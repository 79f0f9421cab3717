-- The README's snippets run, in their order, as one script, and print what they say: what a block prints is the text behind its `-->` and
-- in the ```text block that follows it; a line with `--!` raises the error whose message, without "file:line: ", stands there. Line
-- numbers in the text count within their block, so they are not compared.
local function read(path)
  local file = assert(io.open(path))
  local text = file:read("a")
  file:close()
  return text
end

local readme = read("README.md")

-- A block as a piece of the script, and the list of lines it should print.
local function prepare(block)
  local lines, expected = {}, {}
  for line in block:gmatch("([^\n]*)\n") do
    expected[#expected + 1] = line:match("%-%-> ?(.*)$")
    local code = line:gsub("%-%->.*$", "")
    local statement, message = code:match("^(.-)%s*%-%-! (.*)$")
    if statement then code = ("raises(function() %s end, %q)"):format(statement, message) end
    lines[#lines + 1] = code
  end
  return table.concat(lines, "\n") .. "\n", expected
end

-- All Lua blocks as one script, in which block(i) begins block i, and what each prints.
local function script()
  local parts, expected = {}, {}
  for language, block in readme:gmatch("\n```(%l+)\n(.-)```") do
    if language == "lua" then
      local code
      code, expected[#expected + 1] = prepare(block)
      parts[#parts + 1] = ("block(%d)\n%s"):format(#expected, code)
    elseif language == "text" then
      for line in block:gmatch("([^\n]*)\n") do table.insert(expected[#expected], line) end
    end
  end
  return table.concat(parts), expected
end

local function without_lines(text) return (text:gsub("tour%.lua:%d+", "tour.lua:N")) end

local function quoted(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read("a")
  return text, (pipe:close())
end

describe("README.md", function()
  local stdout = io.stdout
  after_each(function() rawset(io, "stdout", stdout) end)

  it("says what its Lua snippets do", function()
    local code, expected = script()
    local printed = {}
    assert.is_true(#expected > 10)
    local env = setmetatable({}, {__index = _G})
    function env.block() printed[#printed + 1] = "" end
    function env.print(...)
      local values = table.pack(...)
      for i = 1, values.n do values[i] = tostring(values[i]) end
      printed[#printed] = printed[#printed] .. table.concat(values, "\t") .. "\n"
    end
    function env.raises(f, message)
      local ok, raised = pcall(f)
      assert.is_false(ok, message)
      assert.equal(without_lines(message), without_lines((raised:gsub("^tour%.lua:%d+: ", ""))))
    end
    local chunk = assert(load(code, "=tour.lua", "t", env))
    local drawn = {}
    rawset(io, "stdout", {write = function(_, text) drawn[#drawn + 1] = text end})
    chunk()
    rawset(io, "stdout", stdout)
    for i, lines in ipairs(expected) do
      lines[#lines + 1] = #lines > 0 and "" or nil
      if #lines > 0 then assert.equal(without_lines(table.concat(lines, "\n")), without_lines(printed[i])) end
    end
    assert.truthy(table.concat(drawn):find("loss", 1, true))
  end)

  it("shows a C program that prints what it says", function()
    local build = (os.getenv("MLAX") or "build/mlax"):match("^(.*)/[^/]*$")
    local library = io.open(build .. "/libmlax.a")
    local flags, found = run("pkg-config --cflags --libs lua5.4")
    if not library or not found then return pending("needs libmlax.a and pkg-config") end
    library:close()
    local blas = run("ls -d /usr/lib/*/openblas-openmp"):match("^(%S+)\n$")
    local name = os.tmpname()
    local file = assert(io.open(name .. ".c", "w"))
    file:write((readme:match("\n```c\n(.-)```")))
    file:close()
    local paths = blas and ("-L%s -Wl,-rpath,%s"):format(blas, blas) or ""
    local text, ok = run(("cc -Wall -Isrc %s.c %s/libmlax.a %s %s -lopenblas -lz -lm -fopenmp -o %s && %s"):format(quoted(name),
      quoted(build), flags:gsub("\n", " "), paths, quoted(name), quoted(name)))
    os.remove(name)
    os.remove(name .. ".c")
    assert.is_true(ok, text)
    assert.equal(readme:match("/%* %-%-> (.-) %*/") .. "\n", text)
  end)

  it("names files that are there", function()
    for path in readme:gmatch("%]%(([%w/.]+)%)") do read(path) end
    for path in readme:gmatch("`(lua/[%w/]+%.lua)`") do read(path) end
    for path in readme:gmatch("`(spec/[%w/_]+%.lua)`") do read(path) end
  end)
end)
