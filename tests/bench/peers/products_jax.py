"""products.lua in JAX."""
import bench
import jax
import jax.numpy as jnp


def add(name, shape, dtype=jnp.float32):
    def make():
        x, y = (jax.random.normal(jax.random.key(i), shape).astype(dtype) for i in range(2))
        f = jax.jit(jnp.matmul)
        return lambda: f(x, y)

    bench.add(name, make)


for n in 512, 1024, 2048:
    add(f"matmul_{n}", (n, n))
add("matmul_batched", (64, 128, 128))
add("matmul_bf16_1024", (1024, 1024), jnp.bfloat16)
bench.run(jax.block_until_ready)
