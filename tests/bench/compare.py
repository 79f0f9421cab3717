#!/usr/bin/env python3
"""Runs the benchmarks of mlax and of its peers in turn and prints one table. README.md beside this file says how it measures.

    compare.py [--quick] [--rounds N] [--worst] [--best] [--mlax PROGRAM] [WORD...]

WORD...: only rows whose names contain one of the words. --worst: the table once more, worst row first. --best: the figures are the
least of the rounds, not their medians, for a machine that others use. Only the standard library is needed here; the interpreter
that runs this file also runs the peers.
"""
import argparse
import glob
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SYSTEMS = ("mlax", "jax", "torch")
MAX_DELAY = 0.05  # of a sample's time: above it others had the cores
RETRIES = 2  # of a disturbed sample
PAUSE = 0.3  # seconds between samples, in which the threads of the last one stop to spin (those of PyTorch after 0.2)


# -- programs ------------------------------------------------------------------------------------------------------------


def command(system, group, mlax):
    """The command of a group's program, or None where the system has none."""
    if system == "mlax":
        return [mlax, os.path.join(HERE, group + ".lua")]
    path = os.path.join(HERE, "peers", f"{group}_{system}.py")
    return [sys.executable, path] if os.path.exists(path) else None


def run_delay(pid):
    """Seconds that the threads of a process have stood ready to run while others had the cores; 0 where the system does not say."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            with open(path) as file:
                total += int(file.read().split()[1])
        except (OSError, IndexError):  # the thread has ended
            pass
    return total * 1e-9


class Server:
    """A benchmark program that waits for names."""

    def __init__(self, argv, log):
        self.process = subprocess.Popen(argv + ["--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        self.rows = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args[1]} ended early")
        return line.rstrip("\n").split("\t")

    def sample(self, name, seconds):
        """Seconds of a call, and whether others disturbed it."""
        before, start = run_delay(self.process.pid), time.perf_counter()
        self.process.stdin.write(f"{name}\t{seconds}\n")
        self.process.stdin.flush()
        fields = self.answer()
        wall = time.perf_counter() - start
        if fields[1] == "error":
            raise ValueError(fields[2])
        return float(fields[1]), run_delay(self.process.pid) - before > MAX_DELAY * wall

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def fresh(argv, name, log):
    """One process: seconds to its first result, and the most bytes it held."""
    start = time.perf_counter()
    process = subprocess.Popen(argv + ["--once", name], stdout=subprocess.PIPE, stderr=log, text=True)
    line = process.stdout.readline()
    first = time.perf_counter() - start
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if not line or process.returncode != 0:
        raise ValueError(f"{argv[1]} --once {name} failed")
    return first, usage.ru_maxrss * 1024


# -- measuring -----------------------------------------------------------------------------------------------------------


class Samples:
    """The samples of one row by system and variant."""

    def __init__(self, o):
        self.o, self.values, self.disturbed, self.failed = o, {}, 0, {}

    def take(self, who, measure):
        if who in self.failed:
            return
        try:
            kept = measure()
            for _ in range(RETRIES):
                if kept[1]:
                    kept = min(kept, measure(), key=lambda s: (s[1], s[0]))
            self.values.setdefault(who, []).append(kept[0])
            self.disturbed += kept[1]
        except ValueError as error:
            self.failed[who] = str(error)

    def figure(self, system):
        """The system's figure: that of its fastest variant, or None."""
        middle = min if self.o.best else statistics.median
        return min((middle(v) for (s, _), v in self.values.items() if s == system), default=None)

    def noisy(self):
        return 2 * self.disturbed > sum(map(len, self.values.values()))


def variants(server, row):
    return [name for name in server.rows if name == row or name.startswith(row + "@")]


def measure_steady(servers, row, o):
    samples = Samples(o)
    asked = [((s, name), server, name) for s, server in servers.items() for name in variants(server, row)]
    asked = [a for a in asked if not (o.quick and a[2].endswith("@compiled"))]
    for who, server, name in asked:  # makes and warms the workload: compilers take their time here
        samples.take(who, lambda: (server.sample(name, 0.001)[0], False))
    samples.values.clear()
    for _ in range(o.rounds):
        for who, server, name in asked:
            time.sleep(PAUSE)
            samples.take(who, lambda: server.sample(name, o.seconds))
    return samples


def measure_fresh(programs, name, o):
    """The samples of `name:first` and of `name:memory`."""
    first, memory = Samples(o), Samples(o)
    for _ in range(1 if o.quick else 3):
        for system, argv in programs.items():
            try:
                seconds, nbytes = fresh(argv, name, o.log)
                first.take((system, ""), lambda: (seconds, False))
                memory.take((system, ""), lambda: (nbytes, False))
            except ValueError as error:
                first.failed[system, ""] = str(error)
    return first, memory


# -- the table -----------------------------------------------------------------------------------------------------------


def goals():
    """name -> (goal, text), in the order of the table."""
    table = {}
    with open(os.path.join(HERE, "goals.txt")) as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                name, goal, text = line.rstrip("\n").split("\t")
                table[name] = (goal, text)
    return table


def amount(name, value):
    if value is None:
        return "-"
    if name.endswith(":memory"):
        return f"{value / 1e6:.0f} MB"
    for unit, scale in ("s", 1), ("ms", 1e3), ("us", 1e6):
        if value * scale >= 1 or unit == "us":
            return f"{value * scale:.3g} {unit}" if value * scale < 1000 else f"{value * scale:.0f} {unit}"


class Row:
    def __init__(self, name, samples, goal, step):
        """step: seconds of the workload's own call, which a goal like +0.1 is added to."""
        self.name, self.samples, self.goal = name, samples, goal
        self.mlax, self.jax, self.torch = (samples.figure(s) for s in SYSTEMS)
        peers = [v for v in (self.jax, self.torch) if v]
        self.ratio = self.mlax / min(peers) if self.mlax and peers else None
        if goal.startswith("+"):
            limit = step + float(goal) if step else None
            self.over = self.mlax / limit if self.mlax and limit else None
        else:
            self.over = self.ratio / float(goal) if self.ratio and goal != "-" else None

    def text(self):
        ratio = "-" if self.ratio is None else f"{self.ratio:.3f}" if self.ratio < 0.1 else f"{self.ratio:.2f}"
        verdict = "" if self.over is None else "met" if self.over <= 1 else f"no, {self.over:.1f} of it"
        mark = "~" if self.samples.noisy() else " "
        columns = [amount(self.name, v) for v in (self.mlax, self.jax, self.torch)]
        return f"{self.name:22}" + "".join(f"{c:>11}" for c in columns) + f"{ratio:>8}{mark}{self.goal:>7}  {verdict}"


HEAD = f"{'':22}{'mlax':>11}{'JAX':>11}{'PyTorch':>11}{'ratio':>8} {'goal':>7}  met"


class Table:
    def __init__(self, wanted):
        self.wanted, self.goals, self.rows, self.steps = wanted, goals(), [], {}

    def add(self, name, samples):
        goal = self.goals.get(name, ("-", ""))[0]
        row = Row(name, samples, goal, self.steps.get(name.split(":")[0]))
        if ":" not in name and row.mlax:
            self.steps[name] = row.mlax
        self.rows.append(row)
        print(row.text(), flush=True)
        for who, message in samples.failed.items():
            print(f"    {who[0]} {who[1]}: {message}", flush=True)

    def finish(self, worst):
        judged = [r for r in self.rows if r.over is not None]
        if worst:
            print("\nworst first\n" + HEAD)
            for row in sorted(judged, key=lambda r: -r.over):
                print(row.text())
        print(f"\n{sum(r.over <= 1 for r in judged)} of {len(judged)} goals met"
              + ("; ~ others used the cores while it was measured" if any(r.samples.noisy() for r in self.rows) else ""))


# -- groups --------------------------------------------------------------------------------------------------------------


def groups(o):
    """Groups in the order of the goals: each with its rows."""
    order = list(goals())
    found = []
    for path in glob.glob(os.path.join(HERE, "*.lua")):
        rows = subprocess.run([o.mlax, path, "--list"], capture_output=True, text=True, check=True).stdout.split()
        found.append((min((order.index(r) for r in rows if r in order), default=len(order)), path, rows))
    return [(os.path.basename(path)[:-4], rows) for _, path, rows in sorted(found)]


def run_group(group, rows, table, o):
    programs = {s: argv for s in SYSTEMS if (argv := command(s, group, o.mlax))}
    steady = [r for r in rows if ":" not in r and table.wanted(r)]
    # a goal like +0.1 needs the workload's own time
    steady += [r for r in rows if ":" not in r and r not in steady and table.wanted(r + ":first")]
    if steady:
        servers = {s: Server(argv, o.log) for s, argv in programs.items()}
        for row in steady:
            table.add(row, measure_steady(servers, row, o))
        for server in servers.values():
            server.close()
    for name in dict.fromkeys(r.split(":")[0] for r in rows if ":" in r and table.wanted(r)):
        first, memory = measure_fresh(programs, name, o)
        table.add(name + ":first", first)
        table.add(name + ":memory", memory)


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*", help="only rows whose names contain one of them")
    parser.add_argument("--quick", action="store_true", help="three short rounds, no torch.compile")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--worst", action="store_true", help="the table once more, worst row first")
    parser.add_argument("--best", action="store_true", help="the least of the rounds instead of the median")
    parser.add_argument("--verbose", action="store_true", help="what the programs write to stderr is shown")
    parser.add_argument("--mlax", default=os.path.join(HERE, "..", "..", "build", "mlax"))
    o = parser.parse_args()
    o.rounds = o.rounds or (3 if o.quick else 9)
    o.seconds = 0.03 if o.quick else 0.1
    o.log = None if o.verbose else subprocess.DEVNULL
    return o


def main():
    o = options()
    table = Table(lambda name: not o.words or any(word in name for word in o.words))
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, {o.rounds} rounds\n{HEAD}", flush=True)
    for group, rows in groups(o):
        if any(map(table.wanted, rows)):
            run_group(group, rows, table, o)
    table.finish(o.worst)


if __name__ == "__main__":
    main()
