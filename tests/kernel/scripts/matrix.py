"""Runs all pairs of NATs: ``python -m tests.kernel.scripts.matrix [ROUNDS] [DELAY] [AT_ONCE] [KIND,KIND...]``.

DELAY is in seconds, one way, on the links of all hosts behind gateways.
"""

from __future__ import annotations

import sys
import time

import trio

from netmesh_trio.testing.namespaces import KernelInternet, NatKind
from tests.kernel.inside import KINDS, Outcome, all_pairs, build_side, open_world, table


def main() -> None:
    arguments = sys.argv[1:] + [""] * 4
    rounds, delay, at_once = int(arguments[0] or 1), float(arguments[1] or 0), int(arguments[2] or 8)
    kinds: list[NatKind] = [kind for kind in KINDS if not arguments[3] or kind in arguments[3].split(",")]
    outcomes: list[Outcome] = []
    with KernelInternet() as lab:
        hosts = [lab.host("r1"), lab.host("r2")]
        sides = [build_side(lab, name, kinds, delay) for name in "ab"]

        async def run() -> None:
            async with open_world(*hosts) as world:
                outcomes.extend(await all_pairs(world, *sides, at_once=at_once))

        for number in range(rounds):
            began = time.monotonic()
            trio.run(run)
            wrong = [outcome for outcome in outcomes if not outcome.right]
            print(
                f"round {number + 1}: {time.monotonic() - began:.1f} s, {len(wrong)} not as expected so far", flush=True
            )
            for outcome in wrong:
                print(outcome)
    print(table(outcomes))


if __name__ == "__main__":
    main()
