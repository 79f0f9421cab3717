-- The C half as a whole.
describe("mlax.core", function()
  it("is opened once a state, also where package.loaded was cleared", function()
    local core = require "mlax.core"
    package.loaded["mlax.core"] = nil
    assert.equal(core, require "mlax.core")
  end)

end)
