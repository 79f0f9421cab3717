"""mlp.lua in JAX."""
import bench
import jax
import jax.numpy as jnp
import optax


def make(batch):
    k = jax.random.split(jax.random.key(0), 5)
    sizes = [(784, 512), (512, 512), (512, 10)]
    params = [(jax.nn.initializers.lecun_normal()(key, s), jnp.zeros(s[1])) for key, s in zip(k, sizes)]
    return params, jax.random.normal(k[3], (batch, 784)), jax.random.randint(k[4], (batch,), 0, 10)


def forward(params, x):
    for i, (w, b) in enumerate(params):
        x = x @ w + b
        if i < 2:
            x = jax.nn.relu(x)
    return x


def mlp_train():
    params, x, labels = make(128)
    opt = optax.sgd(1e-2, momentum=0.9)

    def step(p, s, x, labels):
        def loss_of(p):
            return optax.softmax_cross_entropy_with_integer_labels(forward(p, x), labels).mean()

        loss, grads = jax.value_and_grad(loss_of)(p)
        updates, s = opt.update(grads, s)
        return optax.apply_updates(p, updates), s, loss

    step = jax.jit(step, donate_argnums=(0, 1))
    box = [params, opt.init(params)]

    def run():
        box[0], box[1], loss = step(*box, x, labels)
        return loss

    return run


def mlp_infer():
    params, x, _ = make(1)
    f = jax.jit(forward)
    return lambda: f(params, x)


bench.add("mlp_train", mlp_train)
bench.add("mlp_infer", mlp_infer)
bench.run(jax.block_until_ready)
