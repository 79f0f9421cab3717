"""conv.lua in JAX: the same layouts."""
import bench
import jax
import jax.numpy as jnp


def draw(seed, shape):
    return jax.random.normal(jax.random.key(seed), shape)


def conv(stride=1, groups=1):
    return lambda x, k: jax.lax.conv_general_dilated(
        x, k, (stride, stride), "SAME", dimension_numbers=("NHWC", "OHWI", "NHWC"), feature_group_count=groups)


def add(name, kernel_shape, f):
    def forward():
        x, k, g = draw(0, (32, 32, 32, 64)), draw(1, kernel_shape), jax.jit(f)
        return lambda: g(x, k)

    def gradients():
        x, k = draw(0, (32, 32, 32, 64)), draw(1, kernel_shape)
        ct = draw(2, f(x, k).shape)
        g = jax.jit(lambda x, k, ct: jax.vjp(f, x, k)[1](ct))
        return lambda: g(x, k, ct)

    bench.add(name, forward)
    bench.add(name + "_grad", gradients)


def pooled(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def max_pool():
    x, f = draw(0, (32, 32, 32, 64)), jax.jit(pooled)
    return lambda: f(x)


def max_pool_grad():
    x, ct = draw(0, (32, 32, 32, 64)), draw(1, (32, 16, 16, 64))

    @jax.jit
    def f(x, ct):
        y, pullback = jax.vjp(pooled, x)
        return y, pullback(ct)

    return lambda: f(x, ct)


add("conv_3x3", (64, 3, 3, 64), conv())
add("conv_1x1", (64, 1, 1, 64), conv())
add("conv_stride2", (64, 3, 3, 64), conv(stride=2))
add("conv_depthwise", (64, 3, 3, 1), conv(groups=64))
bench.add("max_pool", max_pool)
bench.add("max_pool_grad", max_pool_grad)
bench.run(jax.block_until_ready)
