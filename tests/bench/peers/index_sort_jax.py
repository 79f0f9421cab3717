"""index_sort.lua in JAX."""
import bench
import jax
import jax.numpy as jnp


def draw(shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def embed():
    rows, ids = draw((20000, 192)), jax.random.randint(jax.random.key(1), (256, 32), 0, 20000)
    ct = draw((256, 32, 192), 2)

    @jax.jit
    def f(rows, ids, ct):
        y, pullback = jax.vjp(lambda t: t[ids], rows)
        return y, pullback(ct)

    return lambda: f(rows, ids, ct)


def normal():
    key, f = jax.random.key(0), jax.jit(lambda k: jax.random.normal(k, (1_000_000,)))
    return lambda: f(key)


def add(name, shape, f):
    def make():
        x, g = draw(shape), jax.jit(f)
        return lambda: g(x)

    bench.add(name, make)


bench.add("embed", embed)
bench.add("normal", normal)
add("sort", (1_000_000,), jnp.sort)
add("cumsum", (1_000_000,), jnp.cumsum)
add("transpose", (2048, 2048), jnp.transpose)
bench.run(jax.block_until_ready)
