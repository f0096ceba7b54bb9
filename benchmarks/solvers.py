"""Compare our solvers with POT as the paper's code calls it, and with POT at the same accuracy as ours.

python benchmarks/solvers.py --sizes 384 1024 2048 4096
python benchmarks/solvers.py --sizes 8192 11008 --name solvers-large --only paper ours --cap 120

The costs are distances between features. `gauss` has unrelated random features, `heavy` has features as uneven as
activations, `planted` has a shuffled copy with noise, and `real` has the fc1 weights of all blocks of two ViT
parents (--dataset). The paper's code calls `ot.emd` with its default limit, and `ot.bregman.sinkhorn` with a cost in
single precision and marginals in double, at 0.08 of the largest cost.

The error is the relative excess over the optimal cost (exact), or the L1 error of the marginals (entropic). A result
with an error above a thousandth is "wrong". Milliseconds are processor time, because other jobs may use the machine. A
solver that takes more than `--cap` seconds is stopped and has no time.
"""

import argparse
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import ot
import torch
from common import record
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment
from subjects import SUBJECTS
from torch import Tensor

from transfuse.transport.assignment import assignment
from transfuse.transport.sinkhorn import sinkhorn

REGULARIZATIONS = {
    "0.08 of the largest": ("max", 0.08),
    "0.1 of the mean": ("mean", 0.1),
    "0.01 of the mean": ("mean", 0.01),
}
PAPERS = "0.08 of the largest"  # the only regularization above SLOW units
WRONG = 1e-3  # error above which a result is wrong
HEADS = ("cost", "units", "problem", "ours (ms)", "error", "the paper's call", "its error", "POT", "SciPy")
SLOW = 1024  # number of units above which POT takes minutes


def features(kind: str, units: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the features of two sets of units."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    if kind == "gauss":
        return normal(units, 200), normal(units, 200)
    if kind == "planted":
        found = normal(units, 200)
        return found, found[torch.randperm(units, generator=generator)] + 0.3 * normal(units, 200)
    common = normal(32, 200) / 5
    return tuple(normal(units, 1).exp() * (normal(units, 32) @ common + normal(units, 200) / 2) for _ in range(2))  # type: ignore[return-value]


def of_parents(dataset: str, units: int) -> tuple[Tensor, Tensor]:
    """Return the incoming weights of hidden units of two parents, from as many blocks as needed."""
    found = []
    for seed in ("1", "2"):
        state = SUBJECTS[dataset].model(seed).state_dict()
        rows = torch.cat([values for name, values in state.items() if name.endswith("mlp.fc1.weight")])
        found.append(torch.nn.functional.normalize(rows[:units], dim=1))
    return found[0], found[1]


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the milliseconds (the best of three if it is short) and the result of a function."""
    best, found = float("inf"), None
    for _ in range(3):
        start = time.process_time()
        found = run()
        best = min(best, 1e3 * (time.process_time() - start))
        if best > 1000:
            break
    return best, found


def capped(work: Callable[[], Any], seconds: int | None) -> Any:
    """Return the result of a function, or None if it takes more processor seconds."""
    if seconds is None:
        return work()
    context = multiprocessing.get_context("fork")
    given, taken = context.Pipe(duplex=False)

    def child() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))  # limits only the child
        taken.send(work())

    process = context.Process(target=child)
    process.start()
    taken.close()
    try:
        return given.recv()
    except EOFError:
        return None
    finally:
        process.join()


def exact(cost: Tensor, only: list[str], cap: int | None) -> Iterator[dict[str, Any]]:
    units = len(cost)
    array, even = cost.double().numpy(), np.full(units, 1 / units)
    runs: dict[str, Callable[[], Any]] = {
        "paper": lambda: (ot.emd(even, even, array) * array).sum() * units,
        "pot": lambda: (ot.emd(even, even, array, numItermax=10_000_000) * array).sum() * units,
        "scipy": lambda: array[linear_sum_assignment(array)].sum(),
        "ours": lambda: array[assignment(-cost).numpy(), np.arange(units)].sum(),
    }
    wanted = [name for name in runs if name in only and not (name == "pot" and units > SLOW)]
    found = {name: capped(partial(timed, runs[name]), cap) for name in wanted}
    least = min(each[1] for each in found.values() if each)
    for name, each in found.items():
        yield {"solver": name} | (
            {"milliseconds": each[0], "excess": float(each[1] / least - 1)} if each else {"over": cap}
        )


def entropic(cost: Tensor, regularization: float, only: list[str], cap: int | None) -> Iterator[dict[str, Any]]:
    units = len(cost)
    array, single, even = cost.double().numpy(), cost.numpy(), np.full(units, 1 / units)

    def pot(values: np.ndarray, tolerance: float, limit: int) -> np.ndarray:
        return ot.bregman.sinkhorn(even, even, values, regularization, numItermax=limit, stopThr=tolerance)

    runs: dict[str, Callable[[], Any]] = {
        "paper": lambda: pot(single, 1e-9, 1000),
        "pot": lambda: pot(array, 2e-6, 5000),
        "ours": lambda: sinkhorn(cost, regularization).plan.numpy(),
    }

    def measured(run: Callable[[], Any]) -> dict[str, float]:
        milliseconds, plan = timed(run)
        sums = (plan.sum(axis, dtype=np.float64) for axis in (0, 1))
        error, value = sum(abs(each - even).sum() for each in sums), np.vdot(plan, array)
        return {"milliseconds": milliseconds, "excess": float(error), "cost": float(value)}

    for name in runs:
        if name in only:
            yield {"solver": name} | (capped(partial(measured, runs[name]), cap) or {"over": cap})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[384, 1024, 2048, 4096])
    parser.add_argument("--kinds", nargs="+", default=["gauss", "heavy", "planted", "real"])
    parser.add_argument("--only", nargs="+", default=["paper", "pot", "scipy", "ours"])
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--name", default="solvers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cap", type=int, help="seconds that one solver may take")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")  # POT warns if it does not converge; the error shows it
    rows: list[dict[str, Any]] = []
    for kind in args.kinds:
        for units in args.sizes:
            pair = of_parents(args.dataset, units) if kind == "real" else features(kind, units, 0)
            if len(pair[0]) < units:
                continue
            cost = torch.cdist(*pair)
            problems = {"exact": exact(cost, args.only, args.cap)} | {
                name: entropic(cost, share * float(getattr(cost, scale)()), args.only, args.cap)
                for name, (scale, share) in REGULARIZATIONS.items()
                if units <= SLOW or name == PAPERS
            }
            for problem, found in problems.items():
                rows += [{"kind": kind, "units": units, "problem": problem} | each for each in found]
                print(kind, units, problem, flush=True)
                record(args.name, {"rows": rows})
    show(rows)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the time of our solvers and the relative times of others."""
    table = Table(*HEADS)
    for row in compared(rows):
        table.add_row(*row)
    Console(width=130).print(table)


def compared(rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Yield a row for each problem, under HEADS."""
    by_problem: dict[tuple[str, int, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_problem.setdefault((row["kind"], row["units"], row["problem"]), {})[row["solver"]] = row
    for (kind, units, problem), found in by_problem.items():
        ours = found["ours"]
        times = {
            name: f"over {each['over']} s" if "over" in each else "wrong" if each["excess"] > WRONG
            else f"{each['milliseconds'] / ours['milliseconds']:.1f} x"
            for name, each in found.items()
        }  # fmt: skip
        error = f"{found['paper']['excess']:.0e}" if "excess" in found.get("paper", {}) else ""
        yield [
            kind, str(units), problem, f"{ours['milliseconds']:.1f}", f"{ours['excess']:.0e}", times.get("paper", ""),
            error, times.get("pot", ""), times.get("scipy", ""),
        ]  # fmt: skip


if __name__ == "__main__":
    main()
