--- mlax.data: data sets, embedded and from files, and the batches that training takes from them.
return {
  dataset = require "mlax.data.dataset",
  digits = require "mlax.data.digits",
  idx = require "mlax.data.files".idx,
  csv = require "mlax.data.files".csv,
  mnist = require "mlax.data.mnist",
}
