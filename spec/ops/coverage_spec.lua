--- src/ops/README.md tells of each primitive what its record does. build/tests/records prints the records.
local coverage = require "spec.support.coverage"

local build = (os.getenv("MLAX") or "build/mlax"):match("^(.*)/[^/]*$")

describe("the coverage table", function()
  local records = coverage.records(build .. "/tests/records")
  local rows = coverage.rows()

  it("has no empty cell without a reason", function()
    local empty = {}
    for _, r in ipairs(records) do
      for i, cell in ipairs(coverage.cells(r, rows[r.name])) do
        if not cell or cell == "" then empty[#empty + 1] = r.name .. ", column " .. i end
      end
    end
    assert.are.same({}, empty)
  end)

  it("gives no reason that is not needed", function() assert.are.same({}, coverage.stale_reasons(records)) end)

  it("is up to date in src/ops/README.md (else: make coverage-table)", function()
    local file = assert(io.open("src/ops/README.md"))
    local text = file:read("a")
    file:close()
    assert(text == coverage.text(records), "src/ops/README.md is out of date: make coverage-table")
  end)
end)
