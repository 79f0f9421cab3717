"""conv.lua in PyTorch, in both memory formats: channels first is its default, `@last` is channels last."""
import bench
import torch
import torch.nn.functional as F

torch.set_num_threads(bench.CORES)
IMAGES = (32, 64, 32, 32)
FORMATS = {"": torch.contiguous_format, "@last": torch.channels_last}


def draw(shape, form):
    return torch.randn(shape).to(memory_format=form)


def conv(stride=1, groups=1):
    return lambda x, k: F.conv2d(x, k, stride=stride, padding=k.shape[2] // 2, groups=groups)


def add(name, kernel_shape, f):
    def forward(form):
        x, k = draw(IMAGES, form), draw(kernel_shape, form)
        return lambda: f(x, k)

    # The gradients alone: the graph of one forward pass is kept and walked again.
    def gradients(form):
        x, k = draw(IMAGES, form).requires_grad_(), draw(kernel_shape, form).requires_grad_()
        y = f(x, k)
        ct = draw(y.shape, form)
        return lambda: torch.autograd.grad(y, (x, k), ct, retain_graph=True)

    for variant, form in FORMATS.items():
        bench.add(name + variant, lambda form=form: forward(form))
        bench.add(name + "_grad" + variant, lambda form=form: gradients(form))


def max_pool(form):
    x = draw(IMAGES, form)
    return lambda: F.max_pool2d(x, 2)


def max_pool_grad(form):
    x, ct = draw(IMAGES, form).requires_grad_(), draw((32, 64, 16, 16), form)
    return lambda: torch.autograd.grad(F.max_pool2d(x, 2), x, ct)


add("conv_3x3", (64, 64, 3, 3), conv())
add("conv_1x1", (64, 64, 1, 1), conv())
add("conv_stride2", (64, 64, 3, 3), conv(stride=2))
add("conv_depthwise", (64, 1, 3, 3), conv(groups=64))
for variant, form in FORMATS.items():
    bench.add("max_pool" + variant, lambda form=form: max_pool(form))
    bench.add("max_pool_grad" + variant, lambda form=form: max_pool_grad(form))
bench.run()
