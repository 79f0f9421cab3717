"""The figures of core.lua in JAX: prints "name<TAB>microseconds" lines."""
import sys
import time

import jax
import jax.numpy as jnp
import optax

only = set(sys.argv[1:])


def report(name, make, rounds, n):
    if only and name not in only:
        return
    f = make()
    for _ in range(3):
        f()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(n):
            out = f()
        jax.block_until_ready(out)
        times.append((time.perf_counter() - start) / n * 1e6)
    print(f"{name}\t{sorted(times)[rounds // 2]:.3f}", flush=True)


def eager_add():
    x, y = jnp.ones(10), jnp.ones(10)
    return lambda: x + y


def jit_call():
    x, f = jnp.ones(1), jax.jit(lambda v: v + 1)
    return lambda: f(x)


def grad_tiny():
    x, g = jnp.ones(3), jax.grad(lambda v: (v * v).sum())
    return lambda: g(x)


def mlp():
    keys = jax.random.split(jax.random.key(0), 4)
    sizes = [(784, 512), (512, 512), (512, 10)]
    params = [(jax.nn.initializers.lecun_normal()(k, s), jnp.zeros(s[1])) for k, s in zip(keys, sizes)]
    x = jax.random.normal(keys[3], (128, 784))
    y = jax.random.randint(keys[3], (128,), 0, 10)
    opt = optax.sgd(1e-2, momentum=0.9)
    state = opt.init(params)

    def loss_of(p):
        h = x
        for i, (w, b) in enumerate(p):
            h = h @ w + b
            if i < 2:
                h = jax.nn.relu(h)
        return optax.softmax_cross_entropy_with_integer_labels(h, y).mean()

    @jax.jit
    def step(p, s):
        loss, grads = jax.value_and_grad(loss_of)(p)
        updates, s = opt.update(grads, s)
        return optax.apply_updates(p, updates), s, loss

    box = [params, state]

    def run():
        box[0], box[1], loss = step(*box)
        return loss

    return run


report("eager_add_10", eager_add, 15, 5000)
report("jit_call_1", jit_call, 15, 5000)
report("eager_grad_tiny", grad_tiny, 15, 200)
report("mlp_step", mlp, 15, 50)
