"""How often engines picked as the plain scan does, by option: a table of cases tried and equal.

python -m tests.selection.exactness_matrix --cases 2000

A case is equal when picks, their distances to the last bit, outliers, radius and farthest row are.
"""

from __future__ import annotations

import argparse
from collections import Counter

from tests.selection.exactness import CHOICES, draw_case, solve, solve_plainly


def run_cases(count: int, seed: int = 0) -> tuple[Counter[tuple[str, str]], list[int]]:
    """Return how many cases were tried by (option, value), and the seeds of those that differ."""
    tried: Counter[tuple[str, str]] = Counter()
    different = []
    for number in range(seed, seed + count):
        case = draw_case(number)
        equal = solve(case) == solve_plainly(case)
        tried.update((name, str(value)) for name, value in case.values.items())
        if not equal:
            different.append(number)
    return tried, different


def table(tried: Counter[tuple[str, str]], different: list[int]) -> str:
    """Return a markdown table: option, value, cases tried, cases equal."""
    wrong: Counter[tuple[str, str]] = Counter()
    for number in different:
        values = draw_case(number).values
        wrong.update((name, str(value)) for name, value in values.items())
    lines = ["| option | value: cases tried / equal |", "|---|---|"]
    for name in CHOICES:
        found = [value for option, value in tried if option == name and value != "-"]
        order = [str(value) for value in CHOICES[name]]
        found = [v for v in [*order, *sorted(set(found) - set(order))] if v in found]
        cells = [
            f"{value}: {tried[name, value]} / {tried[name, value] - wrong[name, value]}"
            for value in found
        ]
        lines.append(f"| {name} | {'; '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the cases that the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tried, different = run_cases(options.cases, options.seed)
    print(table(tried, different))
    print(f"{options.cases} cases, {options.cases - len(different)} equal.")
    if different:
        raise SystemExit(f"seeds that differ: {different}")


if __name__ == "__main__":
    main()
