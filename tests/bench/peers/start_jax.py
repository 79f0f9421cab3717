"""start.lua in JAX."""
import bench
import jax.numpy as jnp

bench.add("start", lambda: lambda: (jnp.ones(3) + 1).tolist())
bench.run()
