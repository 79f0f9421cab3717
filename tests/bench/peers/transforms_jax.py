"""transforms.lua in JAX."""
import bench
import jax
import jax.numpy as jnp


def chain(v):
    for _ in range(5000):
        v = jnp.sin(v * 0.999)
    return v


def trace():
    """Tracing alone: XLA takes minutes for such a program."""
    x = jnp.ones(8)

    def run():
        jax.clear_caches()
        return jax.make_jaxpr(chain)(x)
    return run


def roll(w, h, xs):
    return jax.lax.scan(lambda c, x: (jnp.tanh(c @ w + x), None), h, xs)[0].sum()


def cell_inputs():
    k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
    return jax.random.normal(k1, (64, 64)) * 0.1, jax.random.normal(k2, (64,)), jax.random.normal(k3, (1000, 64))


def scan_forward():
    args, f = cell_inputs(), jax.jit(roll)
    return lambda: f(*args)


def scan_grad():
    args, f = cell_inputs(), jax.jit(jax.grad(roll, argnums=(0, 1)))
    return lambda: f(*args)


def per_example():
    k1, k2, k3, k4 = jax.random.split(jax.random.key(0), 4)
    params = {"w1": jax.random.normal(k1, (64, 128)) * 0.1, "b1": jnp.zeros(128), "w2": jax.random.normal(k2, (128, 10)) * 0.1,
              "b2": jnp.zeros(10)}
    x, y = jax.random.normal(k3, (256, 64)), jax.random.normal(k4, (256, 10))

    def loss(p, v, t):
        out = jnp.tanh(v @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]
        return jnp.square(out - t).sum()
    f = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0, 0)))
    return lambda: f(params, x, y)


def rosenbrock(x):
    a, b = x[:-1], x[1:]
    return (100 * jnp.square(b - a * a) + jnp.square(1 - a)).sum()


def hessian(wrap):
    x, f = jnp.linspace(-1, 1, 1000), wrap(jax.hessian(rosenbrock))
    return lambda: f(x)


def chain_grad(wrap):
    def make():
        inner = wrap(lambda h: jnp.tanh(jnp.sin(h) * jnp.cos(h)) + jax.nn.sigmoid(h) * 0.5)

        def f(h):
            for _ in range(64):
                h = inner(h)
            return h.sum()
        x, g = jnp.ones((256, 256)), jax.jit(jax.grad(f))
        return lambda: g(x)
    return make


bench.add("trace_10000", trace)
bench.add("scan_forward", scan_forward)
bench.add("scan_grad", scan_grad)
bench.add("per_example_grads", per_example)
bench.add("hessian_1000", lambda: hessian(lambda f: f))
bench.add("jit_hessian_1000", lambda: hessian(jax.jit))
bench.add("chain_grad", chain_grad(lambda f: f))
bench.add("checkpoint_grad", chain_grad(jax.checkpoint))
bench.run(jax.block_until_ready)
