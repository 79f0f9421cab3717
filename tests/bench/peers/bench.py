"""What every peer of tests/bench is run by: the counterpart of support/bench.lua, with the same protocol (../README.md).

    import bench
    bench.add("gelu_1e6", make)             make() gives the function of one call
    bench.add("gelu_1e6@compiled", make2)   another way to do the same: the driver takes the faster one
    bench.run(sync)                         sync(result) waits for the result of the last call
"""
import math
import os
import sys
import time

WORKLOADS = {}
CORES = len(os.sched_getaffinity(0))


def add(name, make):
    WORKLOADS[name] = make


class Made:
    """A workload that is made and warm; `each` is about how long a call takes."""

    def __init__(self, name, sync):
        self.name, self.sync = name, sync
        self.call = WORKLOADS[name]()
        for _ in range(3):
            sync(self.call())
        calls, seconds = 1, self.seconds_of(1)
        while seconds < 0.005:
            calls *= 4
            seconds = self.seconds_of(calls)
        self.each = seconds / calls

    def seconds_of(self, calls):
        call = self.call
        start = time.perf_counter()
        for _ in range(calls):
            out = call()
        self.sync(out)
        return time.perf_counter() - start

    def sample(self, length):
        calls = max(1, math.floor(length / self.each + 0.5))
        self.each = self.seconds_of(calls) / calls
        return self.each


def say(*fields):
    print(*fields, sep="\t", flush=True)


def serve(sync):
    say(*WORKLOADS)
    made = None
    for line in sys.stdin:
        name, length = line.rstrip("\n").split("\t")
        try:
            if not made or made.name != name:
                made = None
                made = Made(name, sync)
            say(name, f"{made.sample(float(length)):.9g}")
        except Exception as error:  # a peer that cannot do it must not end the run
            say(name, "error", " ".join(f"{type(error).__name__}: {error}".split())[:200])


def once(name, sync, more):
    call = WORKLOADS[name]()
    sync(call())
    say(name, "first")
    for _ in range(more):
        sync(call())


def run(sync=lambda result: None):
    args = sys.argv[1:]
    if args[:1] == ["--serve"]:
        serve(sync)
    elif args[:1] == ["--once"]:
        once(args[1], sync, int(args[2]) if len(args) > 2 else 5)
    else:
        for name in WORKLOADS:
            if not args or any(word in name for word in args):
                made = Made(name, sync)
                say(name, f"{sorted(made.sample(0.1) for _ in range(9))[4]:.9g}")
