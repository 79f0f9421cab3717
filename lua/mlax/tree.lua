--- Pytrees: what is composed of the engine's flatten, unflatten and map.
--
-- A tree is a leaf, a list, a dict, a Parameter, a Module or an object of a registered class, nested at will. Paths are Lua accessors:
-- `layers.data[2].kernel`.
-- @module mlax.tree

local core = require "mlax.core"
local check = require "mlax.check"

local mlax, tree = core.mlax, core.tree

local function check_function(op, f)
  local meta = type(f) ~= "function" and getmetatable(f)
  if type(f) ~= "function" and not (type(meta) == "table" and meta.__call) and not mlax.is_module(f) then
    check.fail(op, "f must be a function (got %s)", check.show(f))
  end
end

--- Folds the leaves in order: f(f(init, leaf1), leaf2) ...
-- @param f function(accumulated, leaf) -> accumulated
-- @param t a tree
-- @param init what stands at the beginning
-- @usage print(tree.reduce(function(n, x) return n + x.size end, {mlax.ones{2}, {w = mlax.ones{3}}}, 0))   --> 5
function tree.reduce(f, t, init, ...)
  check.last("tree.reduce", ...)
  check_function("tree.reduce", f)
  for _, leaf in ipairs(tree.leaves(t)) do init = f(init, leaf) end
  return init
end

--- Whether every leaf is `true`, or an array of one element that holds true. Of no leaves: true.
-- @param t a tree
-- @return a Lua boolean
-- @usage print(tree.all{true, {mlax.array(true)}}, tree.all{false, {true}}, tree.all{mlax.array(false)})   --> true true false
function tree.all(t, ...)
  check.last("tree.all", ...)
  for _, pl in ipairs(tree.leaves_with_path(t)) do
    local path, leaf = pl[1], pl[2]
    if mlax.is_array(leaf) then
      if leaf.size ~= 1 then
        check.fail("tree.all", "an array of one element is needed at '%s' (got %s), reduce it with :all()", path, check.show(leaf))
      end
      local v = leaf:item()
      if v == false or v == 0 then return false end
    elseif leaf ~= true then
      return false
    end
  end
  return true
end

--- Turns a tree of structure `outer`, with trees of structure `inner` at its leaves, inside out.
-- @param outer treedef
-- @param inner treedef
-- @param t the tree
-- @return a tree of structure `inner`, with trees of structure `outer` at its leaves
-- @usage local t = tree.transpose(tree.structure{0, 0}, tree.structure{a = 0, b = 0}, {{a = 1, b = 2}, {a = 3, b = 4}})
-- print(t.a[1], t.a[2], t.b[1], t.b[2])   --> 1 3 2 4
function tree.transpose(outer, inner, t, ...)
  check.last("tree.transpose", ...)
  local rows = core.tree_up_to(outer, t)
  for i, row in ipairs(rows) do
    rows[i] = core.tree_up_to(inner, row)
  end
  local columns = {}
  for k = 1, inner.num_leaves do
    local column = {}
    for i = 1, #rows do column[i] = rows[i][k] end
    columns[k] = tree.unflatten(outer, column)
  end
  return tree.unflatten(inner, columns)
end

-- -- paths ------------------------------------------------------------------------------------------------------------

-- The atom of a path at position `at`: its key, and where the next one begins.
local function read_atom(path, at)
  local name, after = path:match("^%.?([%a_][%w_]*)()", at)
  if name and (at == 1) == (path:sub(at, at) ~= ".") then return name, after end
  local index, behind = path:match("^%[(%d+)%]()", at)
  if index then return math.tointeger(tonumber(index)), behind end
  local quoted, past = path:match('^%[("[^"\\]*")%]()', at)
  if not quoted then -- a string with escapes ends at the first quote that no backslash precedes
    local stop = at + 2
    while path:sub(at, at + 1) == '["' and stop <= #path and path:sub(stop, stop) ~= '"' do
      stop = stop + (path:sub(stop, stop) == "\\" and 2 or 1)
    end
    if path:sub(stop, stop + 1) == '"]' then quoted, past = path:sub(at + 1, stop), stop + 2 end
  end
  if not quoted then return nil end
  local chunk, problem = load("return " .. quoted, "=path", "t", {})
  if chunk then return chunk(), past end
  if problem == "not enough memory" then error(problem, 0) end
end

local function atoms(op, path)
  if type(path) ~= "string" then check.fail(op, "a path must be a string (got %s)", check.show(path)) end
  local keys, at = {}, 1
  while at <= #path do
    local key, after = read_atom(path, at)
    if key == nil then check.fail(op, "no path: '%s' (got '%s', need .name, [i] or [\"key\"])", path, path:sub(at)) end
    keys[#keys + 1], at = key, after
  end
  return keys
end

-- The child of a node, or nil.
local function child(node, key)
  if mlax.is_module(node) or mlax.is_parameter(node) then
    if type(key) == "string" then return node[key] end
    return nil
  end
  if type(node) ~= "table" then return nil end
  local children = core.tree_children(node)
  if children then return children[key] end
  return rawget(node, key)
end

local function missing(op, path, keys, n)
  local parts = {}
  for i = 1, n do
    local k = keys[i]
    parts[i] = type(k) == "number" and ("[%d]"):format(k) or (i > 1 and "." or "") .. k
  end
  check.fail(op, "the tree has nothing at '%s'%s", table.concat(parts), n < #keys and (" (of '%s')"):format(path) or "")
end

--- The node of a tree at a path.
-- @param t a tree
-- @param path as leaves_with_path gives it
-- @usage print(tree.get({layers = {{w = 7}}}, "layers[1].w"))   --> 7
function tree.get(t, path, ...)
  check.last("tree.get", ...)
  local keys = atoms("tree.get", path)
  for i, key in ipairs(keys) do
    t = child(t, key)
    if t == nil then missing("tree.get", path, keys, i) end
  end
  return t
end

-- `node` with `new` in place of what lies below keys[i], ...; the node is ours and may be changed.
local function replaced(node, path, keys, i, new)
  if i > #keys then return new end
  local key = keys[i]
  local old = child(node, key)
  if old == nil and not (i == #keys and mlax.is_parameter(node) and key == "data") then missing("tree.at", path, keys, i) end
  local value = replaced(old, path, keys, i + 1, new)
  local children, aux
  if type(node) == "table" then children, aux = core.tree_children(node) end
  if children then
    local copy = table.move(children, 1, #children, 1, {})
    copy[key] = value
    return core.tree_rebuild(node, aux, copy)
  end
  node[key] = value
  return node
end

--- A copy of a tree with one node replaced.
-- @param t a tree
-- @param path as leaves_with_path gives it
-- @param new what takes the place
-- @usage local t = {layers = {{w = 7}}}
-- print(tree.at(t, "layers[1].w", 8).layers[1].w, t.layers[1].w)   --> 8 7
function tree.at(t, path, new, ...)
  check.last("tree.at", ...)
  if new == nil then check.fail("tree.at", "the new node is nil (use false for an empty place)") end
  local keys = atoms("tree.at", path)
  if #keys == 0 then return new end
  return replaced(tree.map(function(leaf) return leaf end, t), path, keys, 1, new)
end

-- -- what the engine registers ----------------------------------------------------------------------------------------

--- The leaves of a tree, in order, and its structure.
-- @function flatten
-- @param t a tree
-- @param[opt] options {is_leaf = function(node): nodes where it holds count as leaves}
-- @return a list, a treedef
-- @usage local leaves, treedef = tree.flatten{b = 2, a = {1, false}}
-- print(leaves[1], leaves[2], treedef.num_leaves)   --> 1 2 2

--- A tree of a structure and its leaves.
-- @function unflatten
-- @param treedef as flatten gives it
-- @param leaves as many
-- @usage local leaves, treedef = tree.flatten{b = 2, a = 1}
-- print(tree.unflatten(treedef, {10, 20}).b)   --> 20

--- The structure of a tree. Structures are interned: equal ones are one object.
-- @function structure
-- @param t a tree
-- @usage print(tree.structure{1, 2} == tree.structure{3, 4})   --> true

--- The leaves of a tree as a list.
-- @function leaves
-- @param t a tree
-- @param[opt] options {is_leaf = function(node)}
-- @usage print(#tree.leaves{1, {2, 3}, false})   --> 3

--- The leaves of a tree as a list of {path, leaf}; paths are Lua accessors.
-- @function leaves_with_path
-- @param t a tree
-- @param[opt] options {is_leaf = function(node)}
-- @usage print(tree.leaves_with_path{layers = {1, 2}}[2][1])   --> layers[2]

--- f of each leaf, in a tree of the same structure. nil raises: false is an empty place.
-- @function map
-- @param f function(leaf, ...) -> new leaf
-- @param t a tree
-- @param ... trees of the same structure, which may have subtrees at the leaves of t
-- @usage print(tree.map(function(a, b) return a + b end, {1, {2}}, {10, {20}})[2][1])   --> 22

--- map, whose f gets the path first.
-- @function map_with_path
-- @param f function(path, leaf, ...) -> new leaf
-- @param t a tree
-- @param ... as of map
-- @usage print(tree.map_with_path(function(path) return path end, {a = {1}}).a[1])   --> a[1]

--- map that takes a node for a leaf where is_leaf holds.
-- @function map_until
-- @param is_leaf function(node)
-- @param f function(leaf, ...)
-- @param t a tree
-- @param ... as of map
-- @usage print(tree.map_until(function(v) return type(v) == "table" and #v == 2 end, function(v) return #v end, {a = {1, 2}}).a)   --> 2

--- Makes the objects of a class nodes of trees.
-- @function register
-- @param class their metatable
-- @param options {flatten = function(object) -> children, aux; unflatten = function(aux, children) -> object}
-- @usage local Pair = {}
-- tree.register(Pair, {flatten = function(p) return {p.a, p.b}, nil end,
--   unflatten = function(_, c) return setmetatable({a = c[1], b = c[2]}, Pair) end})
-- print(tree.map(function(v) return v * 10 end, setmetatable({a = 1, b = 2}, Pair)).b)   --> 20

--- Whether structures, dtypes, shapes and values are the same; NaN equals NaN.
-- @function equal
-- @param a a tree
-- @param b a tree
-- @return a Lua boolean
-- @usage print(tree.equal({mlax.ones{2}}, {mlax.ones{2}}), tree.equal({1}, {{1}}))   --> true false

--- Whether structures are the same and all numbers are close: |a - b| <= atol + rtol |b|.
-- @function allclose
-- @param a a tree
-- @param b a tree
-- @param[opt] options {rtol = 1e-5, atol = 1e-8}
-- @return a Lua boolean
-- @usage print(tree.allclose({mlax.array{1}}, {mlax.array{1 + 1e-7}}))   --> true

-- -- the module -------------------------------------------------------------------------------------------------------

return tree
