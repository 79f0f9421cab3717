"""reduce.lua in JAX."""
import bench
import jax
import jax.numpy as jnp


def draw(shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def add(name, shape, f):
    def make():
        x, g = draw(shape), jax.jit(f)
        return lambda: g(x)

    bench.add(name, make)


def normalised(x, scale, bias):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * scale + bias


def layer_norm():
    x, ct, scale, bias = draw((4096, 1024)), draw((4096, 1024), 1), jnp.ones(1024), jnp.zeros(1024)

    @jax.jit
    def f(x, scale, bias, ct):
        y, pullback = jax.vjp(normalised, x, scale, bias)
        return y, pullback(ct)

    return lambda: f(x, scale, bias, ct)


add("softmax", (4096, 1024), lambda x: jax.nn.softmax(x, -1))
add("logsumexp", (4096, 4096), lambda x: jax.nn.logsumexp(x, -1))
add("sum_all", (10_000_000,), jnp.sum)
add("sum_rows", (4096, 4096), lambda x: x.sum(1))
add("sum_columns", (4096, 4096), lambda x: x.sum(0))
bench.add("layer_norm", layer_norm)
bench.run(jax.block_until_ready)
