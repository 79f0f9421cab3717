--- mlax.plot: small pictures of numbers in the terminal, readable in 80 columns.
--
--     mlax.plot.line(losses, {title = "loss"})
--     mlax.plot.line{train = {1, 0.5, 0.2}, test = {1.1, 0.7, 0.6}}
--     mlax.plot.image(digits.x[1])
--
-- Each writes to standard output, or through {write = function(text)}, or, with {svg = path}, a file instead: then it returns true, or
-- nil and a message.
-- @module mlax.plot
local mlax = require "mlax"
local check = require "mlax.check"
local svg = require "mlax.plot.svg"
local terminal = require "mlax.terminal"

local plot = {}

local function writer(o) return o.write or function(text) io.stdout:write(text) end end

-- Numbers of a list or of an array of one axis.
local function numbers(op, what, v)
  if mlax.is_array(v) then
    if v.ndim ~= 1 then check.fail(op, "%s must have one axis (got %s)", what, check.show(v)) end
    v = v:astype("float64"):totable()
  end
  if type(v) ~= "table" then check.fail(op, "%s must be a list of numbers or an array (got %s)", what, check.show(v)) end
  local list = {}
  for i = 1, #v do
    local x = v[i]
    if mlax.is_array(x) then x = x:item() end
    list[i] = check.number(op, ("%s[%d]"):format(what, i), x) + 0.0
  end
  return list
end

-- Series ---------------------------------------------------------------------------------------------------------------------

-- One list or array; a list of these; or a dict of these by name -> a list of {name, ys}, in the order of names.
local function series_of(op, data)
  if mlax.is_array(data) and data.ndim == 2 then
    local rows = {}
    for i, row in data:rows() do rows[i] = {tostring(i), numbers(op, ("series %d"):format(i), row)} end
    return rows
  end
  if mlax.is_array(data) then return {{"", numbers(op, "data", data)}} end
  if type(data) ~= "table" then check.fail(op, "data must be a list, an array or a table of these (got %s)", check.show(data)) end
  local list, names = {}, {}
  for name in pairs(data) do
    if type(name) == "string" then names[#names + 1] = name end
  end
  if #names == 0 and (type(data[1]) ~= "table" and not (mlax.is_array(data[1]) and data[1].ndim == 1)) then
    return {{"", numbers(op, "data", data)}}
  end
  table.sort(names)
  for _, name in ipairs(names) do list[#list + 1] = {name, numbers(op, name, data[name])} end
  for i = 1, #data do list[#list + 1] = {tostring(i), numbers(op, ("series %d"):format(i), data[i])} end
  return list
end

local function finite(v) return v == v and v ~= math.huge and v ~= -math.huge end

-- The least and the greatest finite value of several lists; a little apart at least.
local function range_of(lists)
  local low, high = math.huge, -math.huge
  for _, list in ipairs(lists) do
    for _, v in ipairs(list) do
      if finite(v) then low, high = math.min(low, v), math.max(high, v) end
    end
  end
  if low > high then return 0, 1 end
  if low == high then
    local margin = low == 0 and 1 or math.abs(low) / 2
    return low - margin, high + margin
  end
  return low, high
end

-- A canvas of braille characters: each is 2 x 4 dots ------------------------------------------------------------------------

local DOT = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}} -- [row][column]

local function canvas_new(columns, rows)
  local canvas = {columns = columns, rows = rows, dots = {}, owner = {}}
  for i = 1, columns * rows do canvas.dots[i] = 0 end
  return canvas
end

-- Sets a dot; x and y count from 0, from the top left corner.
local function canvas_dot(canvas, x, y, owner)
  if x < 0 or y < 0 or x >= canvas.columns * 2 or y >= canvas.rows * 4 then return end
  local i = y // 4 * canvas.columns + x // 2 + 1
  canvas.dots[i] = canvas.dots[i] | DOT[y % 4 + 1][x % 2 + 1]
  canvas.owner[i] = owner
end

local function canvas_line(canvas, x0, y0, x1, y1, owner)
  local steps = math.max(math.abs(x1 - x0), math.abs(y1 - y0), 1)
  for s = 0, steps do
    local t = s / steps
    canvas_dot(canvas, math.floor(x0 + (x1 - x0) * t + 0.5), math.floor(y0 + (y1 - y0) * t + 0.5), owner)
  end
end

local COLOUR = {"\27[36m", "\27[33m", "\27[35m", "\27[32m", "\27[31m", "\27[34m"} -- cyan, yellow, magenta, green, red, blue
local RESET = "\27[0m"

local function paint(text, i, coloured)
  return coloured and COLOUR[(i - 1) % #COLOUR + 1] .. text .. RESET or text
end

-- A row of the canvas as text.
local function canvas_row(canvas, row, coloured)
  local cells = {}
  for column = 1, canvas.columns do
    local i = row * canvas.columns + column
    local cell = canvas.dots[i] == 0 and " " or utf8.char(0x2800 + canvas.dots[i])
    cells[column] = canvas.owner[i] and paint(cell, canvas.owner[i], coloured) or cell
  end
  local text = table.concat(cells)
  return coloured and text or (text:gsub(" +$", ""))
end

-- Axes -----------------------------------------------------------------------------------------------------------------------

-- Every fourth row, the first and the last have a number at the left.
local function y_label(row, rows, low, high)
  if row ~= 0 and row ~= rows - 1 and (row % 4 ~= 0 or row > rows - 3) then return "" end
  return terminal.number(high + (low - high) * row / (rows - 1))
end

local function title_lines(o, series, coloured, margin, out)
  if o.title then out[#out + 1] = (" "):rep(margin + 2) .. o.title end
  local names = {}
  for i, s in ipairs(series) do
    if s[1] ~= "" then names[#names + 1] = paint("── ", i, coloured) .. s[1] end
  end
  if #names > 0 then out[#out + 1] = (" "):rep(margin + 2) .. table.concat(names, "  ") end
end

-- The line of numbers below: the first x, the last and the middle one, with the axis' name between.
local function x_axis(o, columns, low, high, margin)
  local left, right, middle = terminal.number(low), terminal.number(high), o.xlabel or terminal.number((low + high) / 2)
  local gap = columns - #left - #right - #middle
  if gap < 4 then return (" "):rep(margin + 2) .. left .. (" "):rep(math.max(columns - #left - #right, 1)) .. right end
  local before = math.max((columns - #middle) // 2 - #left, 1)
  return (" "):rep(margin + 2) .. left .. (" "):rep(before) .. middle .. (" "):rep(gap - before) .. right
end

local CHART = "width height title xlabel log write colour svg"

-- The canvas with its axes, written out. `draw(canvas, to_x, to_y)` sets the dots.
local function chart(o, series, x_range, y_range, draw)
  local rows = math.max(check.int("plot", "height", o.height or 10, 2), 2)
  local width = check.int("plot", "width", o.width or 72, 20)
  local coloured = o.colour
  if coloured == nil then coloured = not o.write and terminal.has_colour("stdout") and #series > 1 end
  local show = o.log and function(v) return 10 ^ v end or function(v) return v end
  local labels, margin = {}, 0
  for row = 0, rows - 1 do
    labels[row] = y_label(row, rows, y_range[1], y_range[2])
    if o.log and labels[row] ~= "" then
      labels[row] = terminal.number(show(y_range[2] + (y_range[1] - y_range[2]) * row / (rows - 1)))
    end
    margin = math.max(margin, #labels[row])
  end
  local columns = width - margin - 2
  local canvas = canvas_new(columns, rows)
  local function scale(v, low, high, dots) return math.floor((v - low) / (high - low) * (dots - 1) + 0.5) end
  draw(canvas, function(x) return scale(x, x_range[1], x_range[2], columns * 2) end,
    function(y) return rows * 4 - 1 - scale(y, y_range[1], y_range[2], rows * 4) end)
  local out = {}
  title_lines(o, series, coloured, margin, out)
  for row = 0, rows - 1 do
    local mark = labels[row] ~= "" and "┤" or "│"
    out[#out + 1] = (" "):rep(margin - #labels[row]) .. labels[row] .. " " .. mark .. canvas_row(canvas, row, coloured)
  end
  out[#out + 1] = (" "):rep(margin + 1) .. "└" .. ("─"):rep(columns)
  out[#out + 1] = x_axis(o, columns, x_range[1], x_range[2], margin)
  writer(o)(table.concat(out, "\n") .. "\n")
end

local function logarithms(op, list)
  local out = {}
  for i, v in ipairs(list) do
    if v <= 0 then check.fail(op, "a logarithmic axis needs positive values (got %s)", tostring(v)) end
    out[i] = math.log(v, 10)
  end
  return out
end

--- A chart of lines. NaN and infinities leave a gap.
-- @param data a list of numbers or an array {n}; or several: a list or a dict of these, or an array {series, n}
-- @param options {x = positions common to all (default 1, 2, ...), width = 72, height = 10, title, xlabel, log = false (of y), colour,
--   write, svg}
-- @usage plot.line({1, 0.5, 0.2}, {title = "loss"})
-- plot.line{train = {1, 0.5, 0.2}, test = {1.1, 0.7, 0.6}}
function plot.line(data, options, ...)
  local o = check.options("line", options, CHART .. " x", ...)
  local series = series_of("line", data)
  local xs = o.x and numbers("line", "x", o.x)
  local longest, all = 0, {}
  for i, s in ipairs(series) do
    if o.log then s[2] = logarithms("line", s[2]) end
    if xs and #xs ~= #s[2] then check.fail("line", "x has %d values, series %d has %d", #xs, i, #s[2]) end
    longest, all[i] = math.max(longest, #s[2]), s[2]
  end
  local x_range = xs and {range_of{xs}} or {1, math.max(longest, 2)}
  local y_range = {range_of(all)}
  if o.svg then return svg.line(o, series, xs, x_range, y_range) end
  chart(o, series, x_range, y_range, function(canvas, to_x, to_y)
    for i, s in ipairs(series) do
      local before
      for j, v in ipairs(s[2]) do
        local x = xs and xs[j] or j
        local point = finite(v) and finite(x) and {to_x(x), to_y(v)} or nil
        if point then
          local from = before or point
          canvas_line(canvas, from[1], from[2], point[1], point[2], i)
        end
        before = point
      end
    end
  end)
end

--- A chart of points.
-- @param x a list of numbers or an array {n}
-- @param y as many
-- @param options {width = 72, height = 10, title, xlabel, log = false (of y), colour, write, svg}
-- @usage plot.scatter({1, 2, 3}, {1, 4, 9})
function plot.scatter(x, y, options, ...)
  local o = check.options("scatter", options, CHART, ...)
  local xs, ys = numbers("scatter", "x", x), numbers("scatter", "y", y)
  if #xs ~= #ys then check.fail("scatter", "x has %d values, y has %d", #xs, #ys) end
  if o.log then ys = logarithms("scatter", ys) end
  local x_range, y_range = {range_of{xs}}, {range_of{ys}}
  if o.svg then return svg.scatter(o, xs, ys, x_range, y_range) end
  chart(o, {{"", ys}}, x_range, y_range, function(canvas, to_x, to_y)
    for i = 1, #xs do
      if finite(xs[i]) and finite(ys[i]) then canvas_dot(canvas, to_x(xs[i]), to_y(ys[i]), 1) end
    end
  end)
end

local EIGHTHS = {"▏", "▎", "▍", "▌", "▋", "▊", "▉"}

-- A bar of a length in characters, to an eighth of one.
local function bar_of(length)
  local whole, eighths = math.floor(length), math.floor(length % 1 * 8)
  return ("█"):rep(whole) .. (EIGHTHS[eighths] or "")
end

--- A histogram: one bar for each of equal intervals.
-- @param data a list of numbers or an array of any shape; NaN and infinities are left out
-- @param options {bins = 10, width = 72, title, write, svg; height = 10 and xlabel of the file}
-- @usage plot.hist(random.normal(key, {1000}), {bins = 5})
function plot.hist(data, options, ...)
  local o = check.options("hist", options, "bins width height title xlabel write svg", ...)
  if mlax.is_array(data) then data = data:reshape{-1} end
  local list, bins = numbers("hist", "data", data), check.int("hist", "bins", o.bins or 10, 1)
  local low, high = range_of{list}
  local counts, most = {}, 1
  for i = 1, bins do counts[i] = 0 end
  for _, v in ipairs(list) do
    if finite(v) then
      local i = math.min(math.floor((v - low) / (high - low) * bins) + 1, bins)
      counts[i] = counts[i] + 1
      most = math.max(most, counts[i])
    end
  end
  if o.svg then return svg.hist(o, counts, {low, high}) end
  local out = {o.title}
  local room = check.int("hist", "width", o.width or 72, 30) - 26
  for i = 1, bins do
    local from, to = low + (high - low) * (i - 1) / bins, low + (high - low) * i / bins
    out[#out + 1] = ("%8s ─ %8s │%s %d"):format(terminal.number(from), terminal.number(to), bar_of(counts[i] / most * room), counts[i])
  end
  writer(o)(table.concat(out, "\n") .. "\n")
end

--- A confusion matrix as a table: rows are labels, columns predictions.
-- @param matrix integers {n, n}, as metrics.confusion_matrix gives
-- @param options {classes = names, title, write, svg}
-- @usage plot.confusion(metrics.confusion_matrix(mlax.array({1, 2, 2}, "int32"), mlax.array({1, 2, 1}, "int32"), 2))
function plot.confusion(matrix, options, ...)
  local o = check.options("confusion", options, "classes title write svg", ...)
  if not mlax.is_array(matrix) or matrix.ndim ~= 2 or matrix:dim(1) ~= matrix:dim(2) then
    check.fail("confusion", "a square matrix is needed (got %s)", check.show(matrix))
  end
  local rows, names, width = matrix:totable(), {}, 1
  for i = 1, #rows do
    names[i] = tostring(o.classes and o.classes[i] or i)
    width = math.max(width, utf8.len(names[i]) or #names[i])
    for _, v in ipairs(rows[i]) do width = math.max(width, #terminal.number(v)) end
  end
  if o.svg then return svg.confusion(o, rows, names) end
  local function cell(text) return (" "):rep(width + 1 - (utf8.len(text) or #text)) .. text end
  local out, head = {o.title}, {cell("")}
  for i = 1, #names do head[#head + 1] = cell(names[i]) end
  out[#out + 1] = table.concat(head)
  for i, row in ipairs(rows) do
    local cells = {cell(names[i])}
    for _, v in ipairs(row) do cells[#cells + 1] = cell(v == 0 and "·" or terminal.number(v)) end
    out[#out + 1] = table.concat(cells)
  end
  writer(o)(table.concat(out, "\n") .. "\n")
end

-- Images ---------------------------------------------------------------------------------------------------------------------

local SHADES = " .:-=+*#%@" -- from dark to light

-- The pixels of {h, w}, {h, w, 1} or {h, w, 3} as rows of {r, g, b} between 0 and 1; `low` and `high` are black and white.
local function pixels_of(x, low, high)
  if x.ndim == 3 and x:dim(3) == 1 then x = x:squeeze(3) end
  if not (x.ndim == 2 or x.ndim == 3 and x:dim(3) == 3) then
    check.fail("image", "an image is {height, width}, {height, width, 1} or {height, width, 3} (got %s)", check.show(x))
  end
  if x:dim(1) == 0 or x:dim(2) == 0 then check.fail("image", "an image needs at least one pixel (got %s)", check.show(x)) end
  local grey = x.ndim == 2
  local rows = ((x:astype("float32") - low) / (high > low and high - low or 1)):clip(0, 1):totable()
  if grey then
    for _, row in ipairs(rows) do
      for j, v in ipairs(row) do row[j] = {v, v, v} end
    end
  end
  return rows
end

local BLACK = {0, 0, 0}

-- Two rows of pixels a line of text: the upper half block takes one as its colour, the other as background.
local function coloured_row(upper, lower)
  local cells = {}
  for j, a in ipairs(upper) do
    local b = lower and lower[j] or BLACK
    cells[j] = ("\27[38;2;%d;%d;%d;48;2;%d;%d;%dm▀"):format(a[1] * 255 // 1, a[2] * 255 // 1, a[3] * 255 // 1, b[1] * 255 // 1,
      b[2] * 255 // 1, b[3] * 255 // 1)
  end
  return table.concat(cells) .. RESET
end

-- One row of pixels a line of text, each pixel two characters wide, since characters are twice as high as wide.
local function shaded_row(row)
  local cells = {}
  for j, p in ipairs(row) do
    local grey = 0.299 * p[1] + 0.587 * p[2] + 0.114 * p[3]
    local i = math.min(math.floor(grey * #SHADES) + 1, #SHADES)
    cells[j] = SHADES:sub(i, i):rep(2)
  end
  return table.concat(cells)
end

-- The lines of one image, and its width in characters.
local function lines_of(rows, coloured)
  local lines = {}
  if not coloured then
    for i, row in ipairs(rows) do lines[i] = shaded_row(row) end
    return lines, #rows[1] * 2
  end
  for i = 1, #rows, 2 do lines[#lines + 1] = coloured_row(rows[i], rows[i + 1]) end
  return lines, #rows[1]
end

-- Each pixel as a square of n x n.
local function enlarged(rows, n)
  local out = {}
  for i = 1, #rows * n do
    local row = {}
    for j = 1, #rows[1] * n do row[j] = rows[(i - 1) // n + 1][(j - 1) // n + 1] end
    out[i] = row
  end
  return out
end

-- An image with its label below: lines of text, all `width` characters wide on the screen.
local function tile_of(rows, label, coloured)
  local lines, w = lines_of(rows, coloured)
  local length = utf8.len(label) or #label
  local width = math.max(w, length)
  for i, line in ipairs(lines) do lines[i] = line .. (" "):rep(width - w) end
  return {lines = lines, label = label .. (" "):rep(width - length), width = width}
end

-- Tiles side by side as lines of text; the labels stand in one line below all.
local function row_of_tiles(tiles, labelled, out)
  local height = 0
  for _, tile in ipairs(tiles) do height = math.max(height, #tile.lines) end
  for i = 1, height + (labelled and 1 or 0) do
    local parts = {}
    for j, tile in ipairs(tiles) do
      parts[j] = i > height and tile.label or tile.lines[i] or (" "):rep(tile.width)
    end
    out[#out + 1] = (table.concat(parts, "  "):gsub(" +$", ""))
  end
end

-- Images side by side, as many as fit in a line.
local function montage(images, labels, coloured, width)
  local out, tiles, used = {}, {}, 0
  for i, rows in ipairs(images) do
    local tile = tile_of(rows, labels and tostring(labels[i] or "") or "", coloured)
    if #tiles > 0 and used + tile.width > width then
      row_of_tiles(tiles, labels ~= nil, out)
      tiles, used = {}, 0
    end
    tiles[#tiles + 1] = tile
    used = used + tile.width + 2
  end
  row_of_tiles(tiles, labels ~= nil, out)
  return out
end

--- An image or several side by side: in 24-bit colour where the terminal has it, else in shades.
-- @param data {h, w}, {h, w, 1} or {h, w, 3}; several: a list of such arrays, or one of {n, h, w} or
--   {n, h, w, 3}. Floats are black at 0 and white at 1, unless a value lies
--   outside: then at the least and the greatest; integers are black at 0 and white at 255
-- @param options {labels = text below each image, title, low, high (what black and white are), scale = pixels a side for each of
--   the image (default: 2 for small images in colour, else 1), width = 79, colour, write, svg}
-- @usage local train = data.digits()
-- plot.image(train.x["1:3"], {labels = {"one", "two", "three"}})
function plot.image(data, options, ...)
  local o = check.options("image", options, "labels title low high scale width colour write svg", ...)
  local coloured = o.colour
  if coloured == nil then coloured = not o.write and terminal.has_colour("stdout") end
  local list, labels = data, o.labels
  if mlax.is_array(data) and (data.ndim == 4 or data.ndim == 3 and data:dim(3) ~= 1 and data:dim(3) ~= 3) then
    list = {data:unpack()}
  elseif mlax.is_array(data) then
    list = {data}
    if labels ~= nil and type(labels) ~= "table" then labels = {labels} end
  end
  if type(list) ~= "table" or #list == 0 then check.fail("image", "an image or a list of images is needed (got %s)", check.show(data)) end
  local images = {}
  for i, x in ipairs(list) do
    x = check.array("image", ("image %d"):format(i), x)
    local low, high = 0, x.dtype == "bool" and 1 or 255
    if x.dtype:find("float", 1, true) and x.size > 0 then
      low, high = x:min():item(), x:max():item()
      if low >= 0 and high <= 1 then low, high = 0, 1 end
    end
    local rows = pixels_of(x, o.low or low, o.high or high)
    images[i] = enlarged(rows, check.int("image", "scale", o.scale or ((coloured or o.svg) and #rows[1] < 16 and 2 or 1), 1))
  end
  if o.svg then return svg.image(o, images, labels) end
  local out = montage(images, labels, coloured, check.int("image", "width", o.width or 79, 1))
  if o.title then table.insert(out, 1, o.title) end
  writer(o)(table.concat(out, "\n") .. "\n")
end

return plot
