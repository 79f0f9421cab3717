"""calls.lua in JAX."""
import bench
import jax
import jax.numpy as jnp
import optax


def jit_call():
    x, f = jnp.ones(1), jax.jit(lambda v: v + 1)
    return lambda: f(x)


def eager_add():
    x, y = jnp.ones(10), jnp.ones(10)
    return lambda: x + y


def eager_grad():
    x, g = jnp.ones(3), jax.grad(lambda v: (v * v).sum())
    return lambda: g(x)


def tiny():
    k = jax.random.split(jax.random.key(0), 5)
    sizes = [(8, 32), (32, 32), (32, 1)]
    params = [(jax.nn.initializers.lecun_normal()(key, s), jnp.zeros(s[1])) for key, s in zip(k, sizes)]
    return params, jax.random.normal(k[3], (16, 8)), jax.random.normal(k[4], (16, 1))


def loss_of(params, x, y):
    for i, (w, b) in enumerate(params):
        x = x @ w + b
        if i < 2:
            x = jax.nn.relu(x)
    return jnp.square(x - y).mean()


def tiny_train():
    params, x, y = tiny()
    opt = optax.sgd(1e-2)

    @jax.jit
    def step(p, s):
        loss, grads = jax.value_and_grad(loss_of)(p, x, y)
        updates, s = opt.update(grads, s)
        return optax.apply_updates(p, updates), s, loss

    box = [params, opt.init(params)]

    def run():
        box[0], box[1], loss = step(*box)
        return loss

    return run


def vmap_grad():
    params, x, y = tiny()
    f = jax.jit(jax.vmap(jax.grad(loss_of), (None, 0, 0)))
    return lambda: f(params, x, y)


for make in jit_call, eager_add, eager_grad, tiny_train, vmap_grad:
    bench.add(make.__name__, make)
bench.run(jax.block_until_ready)
