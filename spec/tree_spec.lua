local mlax = require "mlax"
local core = require "mlax.core"
local helper = require "spec.helper"
local tree, Parameter = mlax.tree, mlax.Parameter
local message = helper.message

local function paths(t)
  local out = {}
  for i, pl in ipairs(tree.leaves_with_path(t)) do out[i] = pl[1] end
  return out
end

local function raises(text, f) assert.are.equal(text, message(f)) end

describe("tree.leaves", function()
  it("visits lists in order and dicts in byte order of their keys", function()
    assert.are.same({1, 2, 3, 4, 5, 6}, tree.leaves({B = 1, _ = 3, a = {4, 5}, b = 6, Z = 2}))
  end)

  it("takes arrays, numbers, true, strings, functions, threads and foreign userdata as leaves", function()
    local x, f, co = mlax.zeros{2}, function() end, coroutine.create(print)
    local leaves = tree.leaves({x, 1, 2.5, true, "text", f, co, io.stdout})
    assert.are.equal(8, #leaves)
    assert.is_true(leaves[1] == x)
    assert.are.same({1, 2.5, true, "text", f, co, io.stdout}, {table.unpack(leaves, 2)})
    assert.are.equal("integer", math.type(leaves[2]))
  end)

  it("finds nothing in nil, false and empty lists", function()
    assert.are.same({}, tree.leaves(nil))
    assert.are.same({1}, tree.leaves({false, {}, {a = false, b = 1}}))
  end)

  it("stops where is_leaf says so, also at empty places", function()
    local function stop(v) return v == false or type(v) == "table" and #v == 2 and v[1] == 1 end
    local leaves = tree.leaves({{1, 2}, {3}, false}, {is_leaf = stop})
    assert.are.same({{1, 2}, 3, false}, leaves)
  end)

  it("raises where there is no tree, naming the path", function()
    raises("tree.leaves: no tree: a table with both positions and names as keys at its root", function() tree.leaves({1, x = 2}) end)
    raises("tree.leaves: no tree: a table with both positions and names as keys at 'a.b[2]'",
      function() tree.leaves({a = {b = {0, {1, x = 2}}}}) end)
    raises("tree.leaves: no tree: a list with a hole at 'a'", function() tree.leaves({a = {1, nil, 3}}) end)
    raises("tree.leaves: no tree: a table with a key that is neither a position from 1 nor a string at 'a'",
      function() tree.leaves({a = {[0] = 3}}) end)
    raises("tree.leaves: no tree: a table with a key that is neither a position from 1 nor a string at '[1]'",
      function() tree.leaves({{[true] = 3}}) end)
    raises("tree.leaves: no tree: a table with a metatable that is not registered (see tree.register) at 'q'",
      function() tree.leaves({q = setmetatable({}, {})}) end)
    raises("tree.leaves: unknown option 'is_lef', did you mean 'is_leaf'? (known: is_leaf)",
      function() tree.leaves({}, {is_lef = print}) end)
  end)

  it("tells cycles from depth", function()
    local c = {a = {b = {}}}
    c.a.b.c = c.a
    raises("tree.leaves: no tree: a cycle, 'a.b.c' is 'a' again", function() tree.leaves(c) end)
    local r = {}
    r.x = {r}
    raises("tree.leaves: no tree: a cycle, 'x[1]' is the root again", function() tree.leaves(r) end)
    local deep = {}
    for _ = 1, 198 do deep = {deep} end
    tree.leaves(deep)
    for _ = 1, 3 do deep = {deep} end
    raises("tree.leaves: no tree: deeper than 200, below '[1][1][1]'", function() tree.leaves(deep) end)
  end)

  it("walks a table that occurs twice", function()
    local t = {1}
    assert.are.same({1, 1}, tree.leaves({t, t}))
  end)
end)

describe("tree.structure", function()
  local s = tree.structure

  it("is one object for equal structures", function()
    assert.is_true(rawequal(s({a = 1, b = {2, 3}}), s({b = {"x", true}, a = mlax.zeros{2}})))
    assert.is_false(s({1, 2}) == s({1, 2, 3}))
    assert.is_false(s({1}) == s({false}))
    assert.is_false(s({}) == s(nil))
    assert.is_false(s({a = 1}) == s({b = 1}))
  end)

  it("prints and counts its leaves", function()
    local p = Parameter(nil, {1})
    p.unit = "m"
    assert.are.equal('{a = {*, *, false}, ["two words"] = Parameter(nil, {*}, unit = "m")}',
      tostring(s({a = {1, 2, false}, ["two words"] = p})))
    assert.are.equal(3, s({1, {2, 3}}).num_leaves)
    raises("treedef: no field 'leaves' (known: num_leaves)", function() return s({}).leaves, 1 end)
  end)

  it("survives collections, and equal ones stay one object", function()
    local a = s({x = {1, {y = 2}}})
    collectgarbage() collectgarbage()
    assert.is_true(rawequal(a, s({x = {1, {y = 2}}})))
    for i = 1, 500 do s({["k" .. i] = {i}}) end
    collectgarbage() collectgarbage()
    assert.are.equal(1, s({k7 = {1}}).num_leaves)
  end)
end)

describe("tree.unflatten", function()
  it("gives back what flatten took apart", function()
    local t = {a = {1, 2.5, false, {}}, b = "text", c = {d = true}}
    local leaves, def = tree.flatten(t)
    assert.are.same(t, tree.unflatten(def, leaves))
    assert.are.same({1, {}}, tree.unflatten(tree.structure({0, {}}), {1}))
  end)

  it("takes any value for a leaf", function()
    assert.are.same({{1, 2}, false}, tree.unflatten(tree.structure({0, 0}), {{1, 2}, false}))
  end)

  it("raises where leaves are missing or left over", function()
    raises("tree.unflatten: the number of leaves does not fit (got 1, need 2)", function() tree.unflatten(tree.structure({1, 2}), {1}) end)
    raises("tree.unflatten: a treedef is needed (got 3)", function() tree.unflatten(3, {1}) end)
  end)
end)

describe("tree.map", function()
  it("gives f the leaves of all trees and keeps structure and empty places", function()
    assert.are.same({a = 11, b = {22, false}},
      tree.map(function(x, y) return x + y end, {a = 1, b = {2, false}}, {a = 10, b = {20, false}}))
  end)

  it("hands on whole subtrees of the other trees", function()
    assert.are.same({3, 1}, tree.map(function(_, t) return #t end, {0, 0}, {{1, 2, 3}, {{4}}}))
    assert.are.same({false, "n"}, tree.map(function(_, t) return t end, {0, 0}, {false, "n"}))
  end)

  it("takes false, and trees, for results", function()
    local t = tree.map(function(x) return x > 1 and {x, x} or false end, {1, 2})
    assert.are.same({false, {2, 2}}, t)
    assert.are.same({2, 2}, tree.leaves(t))
    local p = tree.map(function() return false end, {Parameter(true, 3)})[1]
    assert.is_nil(p.data)
    assert.are.same({}, tree.leaves(p))
    assert.are.same({1, 2}, tree.leaves(tree.map(function() return {1, 2} end, Parameter(true, 3))))
  end)

  it("raises when f gives nil, with the path", function()
    raises("tree.map: the function gave nil at 'a[1]' (return false for an empty place)",
      function() tree.map(function() end, {a = {1}}) end)
  end)

  it("raises where structures differ, naming the first path and both sides", function()
    local f = function(x) return x end
    raises("tree.map: trees of different structure at 'encoder': {kernel = *} and {bias = *}",
      function() tree.map(f, {decoder = 1, encoder = {kernel = 1}}, {decoder = 1, encoder = {bias = 1}}) end)
    raises("tree.map: trees of different structure at 'e': {*, *} and {*}", function() tree.map(f, {e = {1, 2}}, {e = {1}}) end)
    raises("tree.map: trees of different structure at 'e': {*} and *", function() tree.map(f, {e = {1}}, {e = 5}) end)
    raises("tree.map: trees of different structure at 'e': false and *", function() tree.map(f, {e = false}, {e = 5}) end)
    raises("tree.map: trees of different structure at the root: {*} and nil", function() tree.map(f, {1}, nil, {1}) end)
    raises("tree.map: trees of different structure at 'p': Parameter(true, *) and Parameter(false, *)",
      function() tree.map(f, {p = Parameter(true, 1)}, {p = Parameter(false, 1)}) end)
    raises("tree.map: f must be a function (got 3)", function() tree.map(3, {}) end)
  end)

  it("lets errors of f through unchanged", function()
    local mine = {}
    local ok, e = pcall(tree.map, function() error(mine) end, {1})
    assert.is_false(ok)
    assert.is_true(e == mine)
  end)

  it("works in a coroutine, and f may map again", function()
    local function twice(x) return tree.map(function(y) return y + x end, {x}) end
    assert.are.same({{2}, {4}}, coroutine.wrap(function() return tree.map(twice, {1, 2}) end)())
  end)
end)

describe("paths", function()
  it("are Lua accessors", function()
    assert.are.same({"", "a.b[2].c", '["two words"]', '["a\\"b\\\\\\010"].x', '["end"]', '["1a"]', "_x9"}, {
      paths(1)[1], paths({a = {b = {false, {c = 1}}}})[1], paths({["two words"] = 1})[1], paths({['a"b\\\n'] = {x = 1}})[1],
      paths({["end"] = 1})[1], paths({["1a"] = 1})[1], paths({_x9 = 1})[1]})
    assert.are.same({"p.data", "q.data[1].data"}, paths({p = Parameter(true, 1), q = Parameter(nil, {Parameter(false, 2)})}))
  end)

  it("lead tree.get back to the leaf", function()
    local t = {a = {b = {false, {c = 7}}}, ["two words"] = 8, ['a"b\\\n'] = {x = 9}, ["end"] = 11}
    t.p = Parameter(nil, {Parameter(true, 10)})
    for _, pl in ipairs(tree.leaves_with_path(t)) do
      assert.are.equal(pl[2], tree.get(t, pl[1]))
    end
    assert.is_true(tree.get(t, "") == t)
    raises("tree.get: the tree has nothing at 'a.c' (of 'a.c.d')", function() tree.get(t, "a.c.d") tree.get(t, "") end)
    raises("tree.get: no path: 'a..b' (got '..b', need .name, [i] or [\"key\"])", function() tree.get(t, "a..b") tree.get(t, "") end)
  end)

  it("are given to map_with_path", function()
    assert.are.same({x = {"x[1]=1", "x[2]=2"}},
      tree.map_with_path(function(p, a, b) return p .. "=" .. a * b end, {x = {1, 2}}, {x = {1, 1}}))
  end)
end)

describe("tree.at", function()
  it("replaces a node in a copy", function()
    local t = {a = {1, 2}, p = Parameter(true, {w = 3})}
    local u = tree.at(t, "a[2]", "new")
    assert.are.same({1, "new"}, u.a)
    assert.are.same({1, 2}, t.a)
    assert.is_false(u.p == t.p)
    assert.are.equal(5, tree.at(t, "p.data.w", 5).p.data.w)
    assert.are.equal(5, tree.at(t, "p.data", 5).p.data)
    assert.are.equal(9, tree.at(t, "", 9))
    raises("tree.at: the tree has nothing at 'a[3]'", function() tree.at(t, "a[3]", 1) tree.get(t, "") end)
    raises("tree.at: the new node is nil (use false for an empty place)", function() tree.at(t, "a", nil) tree.get(t, "") end)
  end)
end)

describe("tree.register", function()
  local Point = {name = "Point"}
  Point.__index = Point
  local function point(x, y, tag) return setmetatable({x = x, y = y, tag = tag}, Point) end
  tree.register(Point, {
    flatten = function(p) return {p.x, p.y}, p.tag end,
    unflatten = function(tag, children) return point(children[1], children[2], tag) end,
  })

  it("makes objects trees, with paths [i] and aux values", function()
    local t = tree.map(function(x) return x * 2 end, {point(1, {2}, "P")})
    assert.are.same({2, {4}, "P"}, {t[1].x, t[1].y, t[1].tag})
    assert.is_true(getmetatable(t[1]) == Point)
    assert.are.same({"[1][1]", "[1][2][1]"}, paths({point(1, {2})}))
    assert.are.equal(4, tree.get(t, "[1][2][1]"))
    assert.are.equal("Point(*, *)", tostring(tree.structure(point(1, 2))))
    assert.are.same({7, "P"}, {tree.at(t, "[1][1]", 7)[1].x, tree.at(t, "[1][1]", 7)[1].tag})
  end)

  it("compares aux values", function()
    local s = tree.structure
    assert.is_true(s(point(1, 2, {1, {a = "x"}})) == s(point(3, 4, {1, {a = "x"}})))
    assert.is_false(s(point(1, 2, {1, {a = "x"}})) == s(point(3, 4, {1, {a = "y"}})))
    raises('tree.map: trees of different structure at \'p\': aux = "a" and "b"',
      function() tree.map(function(x) return x end, {p = point(1, 2, "a")}, {p = point(1, 2, "b")}) end)
  end)

  it("checks its arguments and what flatten gives", function()
    raises("tree.register: class is the metatable of its objects (got 3, need a table)", function() tree.register(3, {}) end)
    raises("tree.register: flatten must be a function (got nothing)", function() tree.register({}, {}) end)
    local Bad = {}
    tree.register(Bad, {flatten = function() return 5 end, unflatten = function() end})
    raises("tree.leaves: flatten of a registered class gives its children as a list (got 5)",
      function() tree.leaves(setmetatable({}, Bad)) end)
    local mine = {}
    tree.register(Bad, {flatten = function() error(mine) end, unflatten = function() end})
    local ok, e = pcall(tree.leaves, setmetatable({}, Bad))
    assert.is_true(not ok and e == mine)
  end)
end)

describe("tree.reduce, all, transpose, map_until", function()
  it("reduce folds in order", function()
    assert.are.equal("xab12", tree.reduce(function(s, v) return s .. v end, {p = {1, 2}, a = "a", b = "b"}, "x"))
  end)

  it("all asks every leaf", function()
    assert.is_true(tree.all({true, {a = mlax.array(true)}}))
    assert.is_false(tree.all({true, {a = mlax.array(false)}}))
    assert.is_false(tree.all({true, 1}))
    assert.is_true(tree.all(nil))
    raises("tree.all: an array of one element is needed at '[1]' (got bool[2]), reduce it with :all()",
      function() tree.all({mlax.array({true, true})}) tree.leaves(nil) end)
  end)

  it("transpose turns trees inside out", function()
    local s = tree.structure
    assert.are.same({a = {1, 3}, b = {2, 4}}, tree.transpose(s({0, 0}), s({a = 0, b = 0}), {{a = 1, b = 2}, {a = 3, b = 4}}))
    raises("tree.transpose: trees of different structure at the root: {a = *} and {b = *}",
      function() tree.transpose(s({0}), s({a = 0}), {{b = 1}}) tree.leaves(nil) end)
  end)

  it("map_until stops where it is told", function()
    local pair = function(v) return type(v) == "table" and #v == 2 end
    local function total(v) return type(v) == "table" and v[1] + v[2] or v end
    assert.are.same({a = 3, b = {c = 5}}, tree.map_until(pair, total, {a = {1, 2}, b = {c = 5}}))
  end)
end)

describe("tree.equal and allclose", function()
  it("compare structure, dtypes, shapes and values", function()
    local x = mlax.array({1, 0 / 0})
    assert.is_true(tree.equal({x, 1, "s"}, {mlax.array({1, 0 / 0}), 1, "s"}))
    assert.is_false(tree.equal({x}, {mlax.array({1, 2})}))
    assert.is_false(tree.equal({x}, {x, x}))
    assert.is_false(tree.equal(mlax.zeros({2}), mlax.zeros({2}, "float64")))
    assert.is_false(tree.equal(1, 1.0))
    assert.is_true(tree.equal(mlax.eye(3), mlax.eye(3).T))
    assert.is_true(tree.equal(("long "):rep(20), ("long "):rep(20)))
  end)

  it("allclose allows for rounding", function()
    local x = mlax.array({1, 2, 3})
    assert.is_true(tree.allclose({a = x, b = 1}, {a = x * (1 + 1e-6), b = 1.000001}))
    assert.is_false(tree.allclose({a = x}, {a = x * 1.1}))
    assert.is_true(tree.allclose({a = x}, {a = x * 1.1}, {rtol = 0.2}))
    assert.is_false(tree.allclose(x, x + 0.5, {rtol = 0, atol = 0.4}))
    assert.is_false(tree.allclose(mlax.array(0 / 0), mlax.array(0 / 0)))
    assert.is_true(tree.allclose(mlax.array(math.huge), mlax.array(math.huge)))
  end)
end)

describe("comparing", function()
  it("looks behind the pairs of a derivative, and refuses what has no value yet", function()
    local seen
    mlax.grad(function(x) seen = tree.equal({x}, {mlax.ones{2}}) return x:sum() end)(mlax.ones{2})
    assert.is_true(seen)
    raises("tree.equal: a traced array holds no value to compare (at 'a')",
      function() mlax.jit(function(x) return tree.equal({a = x}, {a = x}), x end)(mlax.ones{2}) end)
  end)
end)

describe("prefixes", function()
  it("let one value stand for a subtree, and false be a value", function()
    assert.are.same({1, false, false, 2}, core.tree_prefix({a = {1, false}, b = 2}, {a = {5, {6, 7}}, b = 8}))
    assert.are.same({3, 3, 3}, core.tree_prefix(3, {1, {2, 3}}))
    assert.are.same({true, false}, core.tree_prefix({Parameter(true, true), Parameter(true)}, {Parameter(true, 5), Parameter(true, 6)}))
    raises("tree: a prefix does not fit its tree at 'a' (got a table, need one value, or the structure of {*, *})",
      function() core.tree_prefix({a = {1}}, {a = {1, 2}}) end)
  end)
end)

describe("intern", function()
  local intern = require "mlax.intern"
  local function made(...)
    local args = {...}
    return intern("spec", args, function() return function() return args end end)
  end

  it("gives one function for equal arguments", function()
    local f = made
    assert.is_true(made(1, "a", {x = {1, 2}}) == made(1, "a", {x = {1, 2}}))
    assert.is_true(made(nil, 2) == made(nil, 2))
    assert.is_true(made(f) == made(f))
    assert.is_false(made(1) == made(1.0))
    assert.is_false(made(1) == made("1"))
    assert.is_false(made(nil, 2) == made(2))
    assert.is_false(made({1}) == made({1, 2}))
  end)

  it("keeps nothing alive", function()
    local weak = setmetatable({made("only once")}, {__mode = "v"})
    collectgarbage() collectgarbage()
    assert.is_nil(weak[1])
  end)
end)
