"""What is printed: Markdown, so that it can go into README.md as it is."""

import os
import statistics
from typing import Any, Callable, Dict, List, Sequence


class Report:
    """Prints tables as they come, and remembers what the targets ask about."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self._met: List[Sequence[str]] = []

    def rounds(self, usual: int) -> int:
        """How often everything is measured: each round has all variants, one after the other."""
        return max(2, usual // 3) if self.quick else usual

    def say(self, text: str) -> None:
        """Print a paragraph."""
        print(text + "\n", flush=True)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print a table, and how busy the machine was."""
        print("### {}\n".format(title))
        print("| {} |\n|---{}".format(" | ".join(head), "|--:" * (len(head) - 1) + "|"))
        for row in rows:
            print("| {} |".format(" | ".join(map(str, row))))
        print("\nload average: {:.1f}\n".format(os.getloadavg()[0]), flush=True)

    def target(self, what: str, wanted: str, measured: str, reached: bool) -> None:
        """Remember how a target was met."""
        self._met.append((what, wanted, measured, "yes" if reached else "**no**"))

    def targets(self) -> None:
        """Print them all, if there are any."""
        if self._met:
            self.table("Targets", ("what", "target", "measured", "reached"), self._met)


def interleaved(rounds: int, variants: Dict[str, Callable[[], Any]]) -> Dict[str, List[Any]]:
    """Measure A B C A B C …: what disturbs the machine for a while disturbs them all."""
    found: Dict[str, List[Any]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, measure in variants.items():
            found[name].append(measure())
    return found


def medians(found: Dict[str, List[float]]) -> Dict[str, float]:
    """Return the median of each variant's rounds."""
    return {name: statistics.median(values) for name, values in found.items()}


def ratio(found: Dict[str, List[float]], of: str, to: str) -> float:
    """Return the median of the rounds' ratios: a round's variants ran under the same load."""
    return statistics.median(a / b for a, b in zip(found[of], found[to]))


def spread(values: Sequence[float], form: str = "{:,.0f}") -> str:
    """Return the lowest and the highest."""
    return "{}–{}".format(form.format(min(values)), form.format(max(values)))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
