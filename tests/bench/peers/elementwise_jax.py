"""elementwise.lua in JAX."""
import bench
import jax
import jax.numpy as jnp
import optax

N = 1_000_000


def gelu():
    x, f = jax.random.normal(jax.random.key(0), (N,)), jax.jit(jax.nn.gelu)
    return lambda: f(x)


def adam():
    opt = optax.adam(1e-3)
    params, grads = jax.random.normal(jax.random.key(0), (N,)), jax.random.normal(jax.random.key(1), (N,))

    def step(p, g, s):
        updates, s = opt.update(g, s)
        return optax.apply_updates(p, updates), s

    step = jax.jit(step, donate_argnums=(0, 2))
    box = [jnp.copy(params), opt.init(params)]

    def run():
        box[0], box[1] = step(box[0], grads, box[1])
        return box[0]

    return run


bench.add("gelu", gelu)
bench.add("adam", adam)
bench.run(jax.block_until_ready)
