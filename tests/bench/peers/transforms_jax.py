"""The figures of transforms.lua in JAX: prints "name<TAB>microseconds" lines."""
import sys
import time

import jax
import jax.numpy as jnp

only = set(sys.argv[1:])


def report(name, make, rounds):
    if only and name not in only:
        return
    f, times = make(), []
    f()
    for _ in range(rounds):
        start = time.perf_counter()
        f()
        times.append((time.perf_counter() - start) * 1e6)
    print(f"{name}\t{sorted(times)[rounds // 2]:.3f}", flush=True)


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
    return lambda: f(*args).block_until_ready()


def scan_grad():
    args, f = cell_inputs(), jax.jit(jax.grad(roll, argnums=(0, 1)))
    return lambda: jax.block_until_ready(f(*args))


def per_example():
    k1, k2, k3, k4 = jax.random.split(jax.random.key(0), 4)
    params = {"w1": jax.random.normal(k1, (64, 128)) * 0.1, "b1": jnp.zeros(128), "w2": jax.random.normal(k2, (128, 10)) * 0.1,
              "b2": jnp.zeros(10)}
    x, y = jax.random.normal(k3, (256, 64)), jax.random.normal(k4, (256, 10))

    def loss(p, v, t):
        out = jnp.tanh(v @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]
        return jnp.square(out - t).sum()
    f = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0, 0)))
    return lambda: jax.block_until_ready(f(params, x, y))


def rosenbrock(x):
    a, b = x[:-1], x[1:]
    return (100 * jnp.square(b - a * a) + jnp.square(1 - a)).sum()


def hessian(wrap):
    x, f = jnp.linspace(-1, 1, 1000), wrap(jax.hessian(rosenbrock))
    return lambda: f(x).block_until_ready()


report("trace_10000", trace, 3)
report("scan_forward", scan_forward, 15)
report("scan_grad", scan_grad, 15)
report("per_example_grads", per_example, 15)
report("hessian_1000", lambda: hessian(lambda f: f), 5)
report("jit_hessian_1000", lambda: hessian(jax.jit), 5)
