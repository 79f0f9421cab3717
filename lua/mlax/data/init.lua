--- mlax.data: data sets, embedded and from files, and the batches that training takes from them.
local embedded = require "mlax.data.embedded"
local files = require "mlax.data.files"

return {
  dataset = require "mlax.data.dataset",
  digits = embedded.digits,
  iris = embedded.iris,
  wine = embedded.wine,
  breast_cancer = embedded.breast_cancer,
  diabetes = embedded.diabetes,
  idx = files.idx,
  csv = files.csv,
  mnist = require "mlax.data.mnist",
}
