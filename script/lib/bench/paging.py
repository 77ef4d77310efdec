# SPDX-License-Identifier: Apache-2.0
"""ram-dl run beside ram-dl swap over the same line, in a virtual machine (tests/integration/ram_swap.sh)."""
import os

from rig.process import Failed, run

from .table import Row


def figures(bench):
    tests = os.path.join(os.environ["top"], "tests/integration")
    done = run([f"{tests}/in_vm.sh", f"{tests}/ram_swap.sh", bench.build, "line"], check=False)
    got = dict(line.split("=") for line in done.stdout.splitlines() if line.startswith("line."))
    if done.returncode or not got:
        raise Failed("ram_swap.sh: " + (done.stdout.strip().splitlines() or ["no answer"])[-1])
    return {name.removeprefix("line."): float(value) for name, value in got.items()}


def beside_swap(bench, quick):
    got = figures(bench)
    swap, own = "ram-dl swap", got["page_us"]
    yield Row("ram", "a page over the line, as swap reads it", own, "us", (), "", None)
    yield Row("ram", "run: a look-up that has to wait, p75 of all", got["run.table.p75"], "us",
              [(swap, got["swap.table.p75"])], "1.3 round trips + 20 us",
              got["run.table.p75"] < 1.3 * own + 20)
    yield Row("ram", "run: 4,000 random look-ups in twice the memory", got["run.table.seconds"], "s",
              [(swap, got["swap.table.seconds"])], "as quick as swap",
              got["run.table.seconds"] <= got["swap.table.seconds"])
    yield Row("ram", "run: a sequential pass over twice the memory", got["run.pass.read3"], "s",
              [(swap, got["swap.pass.read3"])], "a third of swap's time",
              got["run.pass.read3"] * 3 <= got["swap.pass.read3"])
