--- mlax.nn: layers, and the functions that they are made of.
local names = require "mlax.names"

return {
  functional = names.guard("nn.functional", require "mlax.nn.functional"),
  initializers = names.guard("nn.initializers", require "mlax.nn.initializers"),
  Linear = require "mlax.nn.linear",
  Conv = require "mlax.nn.conv",
  MaxPool = require "mlax.nn.max_pool",
  AvgPool = require "mlax.nn.avg_pool",
  Bias = require "mlax.nn.bias",
  Scaler = require "mlax.nn.scaler",
  F = require "mlax.nn.f",
  FRng = require "mlax.nn.frng",
  Series = require "mlax.nn.series",
  SeriesRng = require "mlax.nn.series_rng",
  Parallel = require "mlax.nn.parallel",
  ParallelRng = require "mlax.nn.parallel_rng",
  Embed = require "mlax.nn.embed",
  Dense = require "mlax.nn.dense",
  Dropout = require "mlax.nn.dropout",
  LayerNorm = require "mlax.nn.layer_norm",
  RMSNorm = require "mlax.nn.rms_norm",
  GroupNorm = require "mlax.nn.group_norm",
  ZNorm = require "mlax.nn.znorm",
  BatchNorm = require "mlax.nn.batch_norm",
  Recurrent = require "mlax.nn.recurrent",
  RecurrentRng = require "mlax.nn.recurrent_rng",
}
