local mlax = require "mlax"
local helper = require "spec.helper"
local plot, message = mlax.plot, helper.message

-- What a plot with these arguments and options writes.
local function text_of(f, options, ...)
  local parts, args = {}, table.pack(...)
  options.write = function(s) parts[#parts + 1] = s end
  args[args.n + 1] = options
  f(table.unpack(args, 1, args.n + 1))
  return table.concat(parts)
end

describe("plot.line", function()
  it("draws a line between axes with numbers", function()
    local want = [[
3 ┤              ⢀⣀⡠⠤⠒⠒⠉
  │      ⢀⣀⡠⠤⠔⠒⠊⠉⠁
0 ┤⣀⠤⠤⠒⠊⠉⠁
  └─────────────────────
   1        2.5        4
]]
    assert.equal(want, text_of(plot.line, {width = 24, height = 3}, {0, 1, 2, 3}))
    assert.equal(want, text_of(plot.line, {width = 24, height = 3}, mlax.array{0, 1, 2, 3}))
  end)

  it("draws several series with their names, on a logarithmic axis", function()
    assert.equal([[
      two
      ── a  ── b
   1 ┤⠉⠛⠛⠭⢍⣉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉
     │      ⠉⠉⠒⠢⠤⢄⣀
     │             ⠉⠑⠒⠤⢄⡀
0.01 ┤                  ⠈⠉⠒⠢⠤⣀
     └────────────────────────
      1          2           3
]], text_of(plot.line, {width = 30, height = 4, log = true, title = "two"}, {a = {1, 0.1, 0.01}, b = {1, 1, 1}}))
  end)

  it("leaves gaps for NaN and infinities", function()
    assert.equal([[
3 ┤          ⠈
  │                    ⠐
1 ┤⡀
  └─────────────────────
   1       epoch       5
]], text_of(plot.line, {width = 24, height = 3, xlabel = "epoch"}, {1, 0 / 0, 3, 1 / 0, 2}))
  end)

  it("fits 80 columns by default and takes nothing, one value and equal values", function()
    for _, data in ipairs{{}, {1}, {0, 0, 0}, {1e30, -1e30}} do
      for line in text_of(plot.line, {}, data):gmatch("[^\n]+") do assert.is_true(utf8.len(line) <= 80) end
    end
  end)

  it("names what is wrong", function()
    assert.equal("line: data[2] must be a number (got \"x\")", message(plot.line, {1, "x"}))
    assert.equal("line: x has 1 values, series 1 has 2", message(plot.line, {1, 2}, {x = {1}}))
    assert.equal("line: a logarithmic axis needs positive values (got 0.0)", message(plot.line, {1, 0}, {log = true}))
    assert.truthy(message(plot.line, {1}, {titel = "x"}):find("line: unknown option 'titel', did you mean 'title'?", 1, true))
  end)
end)

describe("plot.scatter and plot.hist", function()
  it("scatter draws points", function()
    assert.equal([[
4 ┤                ⠈
  │
0 ┤⡀       ⠈
  └─────────────────
   0       1       2
]], text_of(plot.scatter, {width = 20, height = 3}, {0, 1, 2}, {0, 1, 4}))
  end)

  it("hist draws one bar an interval", function()
    assert.equal([[
       1 ─        2 │██████████████ 2
       2 ─        3 │███████ 1
       3 ─        4 │███████ 1
]], text_of(plot.hist, {bins = 3, width = 40}, mlax.array{{1, 1}, {2, 4}}))
  end)
end)

describe("plot.confusion", function()
  it("writes a table with the names of classes", function()
    assert.equal([[
     cat dog
 cat   3   ·
 dog   1  12
]], text_of(plot.confusion, {classes = {"cat", "dog"}}, mlax.array({{3, 0}, {1, 12}}, "int32")))
  end)
end)

describe("plot.image", function()
  it("shows shades where there is no colour, side by side, with labels", function()
    assert.equal([[
  ==  @@@@
@@@@  @@@@
a     b
]], text_of(plot.image, {labels = {"a", "b"}}, {mlax.array{{0, 0.45}, {1, 1}}, mlax.full({2, 2}, 255, "uint8")}))
  end)

  it("shows two rows a line of text in colour", function()
    assert.equal("\27[38;2;0;0;0;48;2;255;255;255m▀\27[0m\n", text_of(plot.image, {colour = true, scale = 1}, mlax.array{{0}, {1}}))
  end)

  it("makes room for long labels and enlarges on request", function()
    assert.equal([[
@@@@          @@@@
@@@@          @@@@
a long label  b
]], text_of(plot.image, {scale = 2, labels = {"a long label", "b"}}, {mlax.ones{1, 1}, mlax.ones{1, 1}}))
  end)

  it("goes on below where the line is full", function()
    local images = {}
    for i = 1, 3 do images[i] = mlax.ones{1, 4} end
    assert.equal("@@@@@@@@  @@@@@@@@\n@@@@@@@@\n", text_of(plot.image, {width = 20}, images))
  end)

  it("names what is no image", function()
    assert.equal("image: an image is {height, width}, {height, width, 1} or {height, width, 3} (got float32[3])",
      message(plot.image, mlax.ones{3}))
    assert.equal("image: an image needs at least one pixel (got float32[0,3])", message(plot.image, mlax.ones{0, 3}))
  end)
end)

describe("{svg = path}", function()
  local path
  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  -- The file that a plot writes: well-formed as far as tags go, and nothing on standard output.
  local function picture(f, options, ...)
    options.svg = path
    local args = table.pack(...)
    args[args.n + 1] = options
    assert.is_true(f(table.unpack(args, 1, args.n + 1)))
    local file = assert(io.open(path))
    local text = file:read("a")
    file:close()
    local open = {}
    for slash, tag, rest in text:gmatch("<(/?)(%a+)([^>]*)>") do
      if slash == "/" then assert.equal(tag, table.remove(open)) elseif rest:sub(-1) ~= "/" then open[#open + 1] = tag end
    end
    assert.equal(0, #open)
    assert.truthy(text:match("^<svg xmlns"))
    assert.is_nil(text:find("nan", 1, true) or text:find("inf", 1, true))
    return text
  end

  local function count(text, pattern) return select(2, text:gsub(pattern, "")) end

  it("holds lines with gaps, ticks at round numbers and escaped names", function()
    local text = picture(plot.line, {title = "a < b & c"}, {train = {1, 2, 0 / 0, 3, 10}, test = {4, 5}})
    assert.equal(3, count(text, "<polyline"))
    assert.truthy(text:find(">a &lt; b &amp; c</text>", 1, true))
    assert.truthy(text:find(">train</text>", 1, true))
    for _, tick in ipairs{"2", "4", "6", "8", "10"} do assert.truthy(text:find(">" .. tick .. "</text>", 1, true), tick) end
    assert.truthy(picture(plot.line, {log = true, xlabel = "step"}, {100, 1}):find(">step</text>", 1, true))
    picture(plot.line, {}, {})
  end)

  it("holds points, bars and tables", function()
    assert.equal(2, count(picture(plot.scatter, {}, {1, 2, 0 / 0}, {1, 4, 5}), "<circle"))
    assert.equal(1 + 3, count(picture(plot.hist, {bins = 3}, {1, 2, 2, 3}), "<rect"))
    local text = picture(plot.confusion, {classes = {"cat", "dog"}}, mlax.array({{3, 0}, {1, 12}}, "int32"))
    assert.equal(1 + 4, count(text, "<rect"))
    assert.truthy(text:find(">dog</text>", 1, true))
  end)

  it("holds images, with neighbours of one colour as one rectangle", function()
    local text = picture(plot.image, {scale = 1, labels = {"x"}}, {mlax.array{{0, 0, 1}, {1, 1, 1}}})
    assert.equal(1 + 3, count(text, "<rect"))
    assert.truthy(text:find('fill="#ffffff"', 1, true))
    assert.truthy(text:find(">x</text>", 1, true))
  end)

  it("says what cannot be written", function()
    local ok, problem = plot.line({1, 2}, {svg = "/nonexistent/picture.svg"})
    assert.is_nil(ok)
    assert.truthy(problem:find("/nonexistent/picture.svg", 1, true))
    assert.equal("line: svg must be a path (got 3)", message(plot.line, {1, 2}, {svg = 3}))
  end)
end)
