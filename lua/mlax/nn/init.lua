--- mlax.nn: layers, and the functions that they are made of.
return {
  functional = require "mlax.nn.functional",
  initializers = require "mlax.nn.initializers",
  Linear = require "mlax.nn.linear",
  Bias = require "mlax.nn.bias",
  Scaler = require "mlax.nn.scaler",
  F = require "mlax.nn.f",
  FRng = require "mlax.nn.frng",
  Series = require "mlax.nn.series",
  SeriesRng = require "mlax.nn.series_rng",
}
