-- The pictures of mlax.plot as SVG files. A picture is a list of elements as text; sizes are in pixels; a character of the terminal
-- counts as 9 x 24, so that `width` and `height` mean the same in both.
local check = require "mlax.check"
local terminal = require "mlax.terminal"

local svg = {}

local CELL_X, CELL_Y = 9, 24
local LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 44 -- around the field of a chart
local COLOURS = {"#1f77b4", "#ff7f0e", "#9467bd", "#2ca02c", "#d62728", "#17becf"}

local function colour_of(i) return COLOURS[(i - 1) % #COLOURS + 1] end

local entities = {["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;"}

-- Text that may stand in XML: control characters, which no version of it allows, become "?".
local function escaped(text) return (tostring(text):gsub('[&<>"]', entities):gsub("[%z\1-\8\11\12\14-\31]", "?")) end

local function text_at(x, y, text, more)
  return ('<text x="%.1f" y="%.1f"%s>%s</text>'):format(x, y, more and " " .. more or "", escaped(text))
end

local function line_at(x1, y1, x2, y2, colour)
  return ('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>'):format(x1, y1, x2, y2, colour)
end

local function rect_at(x, y, w, h, colour)
  return ('<rect x="%.2f" y="%.2f" width="%.2f" height="%.2f" fill="%s"/>'):format(x, y, w, h, colour)
end

-- Writes the picture. Gives true, or nil and a message.
local function write(op, path, width, height, parts)
  if type(path) ~= "string" then check.fail(op, "svg must be a path (got %s)", check.show(path)) end
  local file, problem = io.open(path, "wb")
  if not file then return nil, problem end
  local head = ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" '
    .. 'font-size="12">'):format(width, height, width, height)
  local ok, failure = file:write(head, "\n", rect_at(0, 0, width, height, "white"), "\n", table.concat(parts, "\n"), "\n</svg>\n")
  local closed, late = file:close()
  if ok and closed then return true end
  return nil, failure or late
end

-- Charts ---------------------------------------------------------------------------------------------------------------------

-- About `most` round numbers between two: multiples of 1, 2 or 5 times a power of ten.
local function ticks(low, high, most)
  local raw = (high - low) / most
  if not (raw > 0 and raw < math.huge) then return {low} end
  local power = 10 ^ math.floor(math.log(raw, 10))
  local step = power * 10
  for _, factor in ipairs{1, 2, 5} do
    if raw <= factor * power * 1.0001 then
      step = factor * power
      break
    end
  end
  local list, first = {}, math.ceil(low / step - 1e-9)
  while (first + #list) * step <= high + step * 1e-9 and #list < 50 do list[#list + 1] = (first + #list) * step end
  return list
end

-- An empty chart: its elements so far, and how values become pixels.
local function frame(o, x_range, y_range)
  local width = check.int("plot", "width", o.width or 72, 20) * CELL_X
  local height = check.int("plot", "height", o.height or 10, 2) * CELL_Y + TOP + BOTTOM
  local right, bottom = width - RIGHT, height - BOTTOM
  local top = TOP + (o.title and 20 or 0)
  local function to_x(v) return LEFT + (v - x_range[1]) / (x_range[2] - x_range[1]) * (right - LEFT) end
  local function to_y(v) return bottom - (v - y_range[1]) / (y_range[2] - y_range[1]) * (bottom - top) end
  local parts = {}
  for _, v in ipairs(ticks(y_range[1], y_range[2], 5)) do
    parts[#parts + 1] = line_at(LEFT, to_y(v), right, to_y(v), "#e0e0e0")
    parts[#parts + 1] = text_at(LEFT - 6, to_y(v) + 4, terminal.number(o.log and 10 ^ v or v), 'text-anchor="end"')
  end
  for _, v in ipairs(ticks(x_range[1], x_range[2], 8)) do
    parts[#parts + 1] = line_at(to_x(v), bottom, to_x(v), bottom + 4, "#404040")
    parts[#parts + 1] = text_at(to_x(v), bottom + 18, terminal.number(v), 'text-anchor="middle"')
  end
  parts[#parts + 1] = line_at(LEFT, bottom, right, bottom, "#404040")
  parts[#parts + 1] = line_at(LEFT, top, LEFT, bottom, "#404040")
  if o.title then parts[#parts + 1] = text_at(width / 2, TOP + 6, o.title, 'text-anchor="middle" font-size="15"') end
  if o.xlabel then parts[#parts + 1] = text_at((LEFT + right) / 2, bottom + 36, o.xlabel, 'text-anchor="middle"') end
  return {parts = parts, width = width, height = height, top = top, right = right, bottom = bottom, to_x = to_x, to_y = to_y}
end

local function finite(v) return v == v and v ~= math.huge and v ~= -math.huge end

-- The names of series, in the upper right corner.
local function legend(f, series)
  local row = 0
  for i, s in ipairs(series) do
    if s[1] ~= "" then
      row = row + 1
      local y = f.top + 16 * row
      f.parts[#f.parts + 1] = rect_at(f.right - 14, y - 8, 10, 10, colour_of(i))
      f.parts[#f.parts + 1] = text_at(f.right - 20, y + 1, s[1], 'text-anchor="end"')
    end
  end
end

local function polyline(f, points, i)
  if #points == 0 then return end
  if #points == 1 then points[2] = points[1] end -- a single point between gaps, as a dot
  f.parts[#f.parts + 1] = ('<polyline fill="none" stroke="%s" stroke-width="1.8" stroke-linecap="round" points="%s"/>'):format(
    colour_of(i), table.concat(points, " "))
end

--- Lines through series of {name, ys}; xs, one for each y, may be nil. NaN and infinities leave a gap.
function svg.line(o, series, xs, x_range, y_range)
  local f = frame(o, x_range, y_range)
  for i, s in ipairs(series) do
    local points = {}
    for j, v in ipairs(s[2]) do
      local x = xs and xs[j] or j
      if finite(v) and finite(x) then
        points[#points + 1] = ("%.1f,%.1f"):format(f.to_x(x), f.to_y(v))
      else
        polyline(f, points, i)
        points = {}
      end
    end
    polyline(f, points, i)
  end
  legend(f, series)
  return write("line", o.svg, f.width, f.height, f.parts)
end

--- Points.
function svg.scatter(o, xs, ys, x_range, y_range)
  local f = frame(o, x_range, y_range)
  for i = 1, #xs do
    if finite(xs[i]) and finite(ys[i]) then
      f.parts[#f.parts + 1] = ('<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s" fill-opacity="0.6"/>'):format(f.to_x(xs[i]), f.to_y(ys[i]),
        colour_of(1))
    end
  end
  return write("scatter", o.svg, f.width, f.height, f.parts)
end

--- Bars of counts over equal intervals of x_range.
function svg.hist(o, counts, x_range)
  local most = 1
  for _, n in ipairs(counts) do most = math.max(most, n) end
  local f = frame(o, x_range, {0, most})
  local step = (x_range[2] - x_range[1]) / #counts
  for i, n in ipairs(counts) do
    local left, right = f.to_x(x_range[1] + (i - 1) * step), f.to_x(x_range[1] + i * step)
    f.parts[#f.parts + 1] = rect_at(left + 0.5, f.to_y(n), math.max(right - left - 1, 0.5), f.bottom - f.to_y(n), colour_of(1))
  end
  return write("hist", o.svg, f.width, f.height, f.parts)
end

-- Tables and images ------------------------------------------------------------------------------------------------------------

--- A square table of numbers with the names of its rows and columns; the greater a number, the darker its cell.
function svg.confusion(o, rows, names)
  local side, most, longest = 44, 1, 1
  for i, row in ipairs(rows) do
    longest = math.max(longest, utf8.len(names[i]) or #names[i])
    for _, v in ipairs(row) do most = math.max(most, v) end
  end
  local left, top = 16 + longest * 8 + 8, 24 + (o.title and 24 or 0)
  local parts = {}
  if o.title then parts[1] = text_at(left, 20, o.title, 'font-size="15"') end
  for i, row in ipairs(rows) do
    parts[#parts + 1] = text_at(left - 8, top + (i - 0.5) * side + 4, names[i], 'text-anchor="end"')
    parts[#parts + 1] = text_at(left + (i - 0.5) * side, top - 6, names[i], 'text-anchor="middle"')
    for j, v in ipairs(row) do
      local share = math.max(v / most, 0)
      parts[#parts + 1] = ('<rect x="%d" y="%d" width="%d" height="%d" fill="%s" fill-opacity="%.3f" stroke="#d0d0d0"/>'):format(
        left + (j - 1) * side, top + (i - 1) * side, side, side, colour_of(1), share)
      parts[#parts + 1] = text_at(left + (j - 0.5) * side, top + (i - 0.5) * side + 4, terminal.number(v),
        ('text-anchor="middle" fill="%s"'):format(share > 0.5 and "white" or "#202020"))
    end
  end
  return write("confusion", o.svg, left + #rows * side + 16, top + #rows * side + 16, parts)
end

local function hex(p) return ("#%02x%02x%02x"):format(p[1] * 255 // 1 | 0, p[2] * 255 // 1 | 0, p[3] * 255 // 1 | 0) end

-- The pixels of an image, neighbours of one colour in a row as one rectangle.
local function pixels(parts, rows, left, top, size)
  for i, row in ipairs(rows) do
    local j = 1
    while j <= #row do
      local colour, last = hex(row[j]), j
      while last < #row and hex(row[last + 1]) == colour do last = last + 1 end
      parts[#parts + 1] = rect_at(left + (j - 1) * size, top + (i - 1) * size, (last - j + 1) * size, size, colour)
      j = last + 1
    end
  end
end

--- Images, lists of rows of {r, g, b}, side by side in lines of at most o.width characters, each with its label below.
function svg.image(o, images, labels)
  local limit, gap, size = check.int("image", "width", o.width or 79, 1) * CELL_X, 12, 4
  local x, y, line, widest = gap, gap + (o.title and 20 or 0), 0, 0
  local parts = {'<g shape-rendering="crispEdges">'}
  if o.title then table.insert(parts, 1, text_at(gap, 20, o.title, 'font-size="15"')) end
  for i, rows in ipairs(images) do
    local label = labels and tostring(labels[i] or "") or ""
    local w, h = math.max(#rows[1] * size, (utf8.len(label) or #label) * 7), #rows * size + (labels and 18 or 0)
    if x > gap and x + w > limit then x, y, line = gap, y + line + gap, 0 end
    pixels(parts, rows, x, y, size)
    if label ~= "" then parts[#parts + 1] = text_at(x, y + #rows * size + 14, label) end
    x, line = x + w + gap, math.max(line, h)
    widest = math.max(widest, x)
  end
  parts[#parts + 1] = "</g>"
  return write("image", o.svg, widest, y + line + gap, parts)
end

return svg
