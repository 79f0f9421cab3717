"""peer.py write|check FOLDER: Python's half of test-interop.

write: arrays of every dtype, order and rank into py.* files.
check: reads what mlax wrote of the same arrays (lua.*), and compares values, dtypes and, where it can, the bytes of whole files.
"""
import sys

import numpy as np
import safetensors
import safetensors.numpy

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]
SHAPES = [(), (1,), (7,), (0,), (2, 3), (3, 0, 2), (2, 3, 4), (2, 1, 3, 2)]


def arrays():
    """The arrays by name; mlax.lua makes the same."""
    out = {}
    for dtype in DTYPES:
        for i, shape in enumerate(SHAPES):
            n = int(np.prod(shape, dtype=np.int64))
            x = (np.arange(n) * 37 % 101).reshape(shape)
            out[f"{dtype}.{i}"] = np.asarray(x % 2 == 1 if dtype == "bool" else x.astype(dtype))
    out["float32.special"] = np.array([np.inf, -np.inf, np.nan, -0.0, 1e-45], "float32")
    out["int64.special"] = np.array([-(2**63), 2**63 - 1], "int64")
    out['é "\\ \n'] = np.array([1.5], "float32")
    return out


def write(folder):
    own = arrays()
    safetensors.numpy.save_file(own, f"{folder}/py.safetensors")
    safetensors.numpy.save_file({"x": np.ones((2, 2), "float32")}, f"{folder}/py.metadata.safetensors", {"made": "by Python"})
    plain = {name: x for name, x in own.items() if "\\" not in name}
    np.savez(f"{folder}/py.npz", **plain)
    np.savez_compressed(f"{folder}/py.compressed.npz", **plain)
    with open(f"{folder}/names", "w") as names:
        for name, x in plain.items():
            np.save(f"{folder}/py.{name}.npy", x)
            np.save(f"{folder}/py.{name}.fortran.npy", np.array(x, order="F"))
            np.save(f"{folder}/py.{name}.big.npy", x.astype(x.dtype.newbyteorder(">")))
            names.write(name + "\n")


def same(name, want, got):
    assert got.dtype == want.dtype and got.shape == want.shape, (name, got.dtype, got.shape, want.dtype, want.shape)
    assert got.tobytes() == want.tobytes(), name


def check(folder):
    own = arrays()
    plain = {name: x for name, x in own.items() if "\\" not in name}
    got = safetensors.numpy.load_file(f"{folder}/lua.safetensors")
    assert got.keys() == own.keys(), got.keys() ^ own.keys()
    for name, want in own.items():
        same(name, want, got[name])
    with open(f"{folder}/py.safetensors", "rb") as py, open(f"{folder}/lua.safetensors", "rb") as lua:
        assert py.read() == lua.read(), "the safetensors files differ in their bytes"
    with safetensors.safe_open(f"{folder}/lua.bfloat16.safetensors", "numpy") as f:
        assert list(f.keys()) == ["x"] and f.get_slice("x").get_dtype() == "BF16"
    for file in "lua.npz", "lua.compressed.npz":
        with np.load(f"{folder}/{file}") as z:
            assert set(z.files) == set(plain), file
            for name, want in plain.items():
                same(name, want, z[name])
    for name, want in plain.items():
        same(name, want, np.load(f"{folder}/lua.{name}.npy"))
    print(f"read by Python: {len(own) + 3 * len(plain) + 1} arrays")


{"write": write, "check": check}[sys.argv[1]](sys.argv[2])
