-- luacheck: no globals, lines of at most 140 characters
std = "lua54"
max_line_length = 140
self = false -- methods take self whether they use it or not
files["spec/"] = {std = "lua54+busted"}
files["lua/examples/"] = {ignore = {"43."}} -- a step's arguments are named like what they stand for
exclude_files = {"build*/", "tests/golden/[!r]*.lua", "tests/golden/r[!u]*.lua"} -- the answers of JAX are data
