"""The matrix as a table at the end of the tests' report: rows by language and place."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from languages import Missing
from places import CELLS, Cell

MARKS = {"passed": "ok", "failed": "FAILED", "error": "FAILED", "skipped": "SKIPPED"}
WIDTH = 9


class Table:
    """Collects the outcomes of tests marked with ``row``."""

    def __init__(self) -> None:
        self.outcomes: dict[str, dict[str, str]] = {}
        self.missing: dict[str, dict[str, str]] = {}

    def expect(self, row: str, cells: list[Cell], missing: dict[str, str]) -> None:
        """Note a row, with the cells that are tested, and why others are not."""
        outcomes = self.outcomes.setdefault(row, {})
        outcomes.update({str(cell): outcomes.get(str(cell), "not run") for cell in cells})
        self.missing.setdefault(row, {}).update(missing)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note an outcome; a failure of any part of a test is one."""
        found = dict(report.user_properties).get("matrix")
        if found is None or (report.when != "call" and report.passed):
            return
        row, cell = found
        if self.outcomes[row].get(cell) != "FAILED":
            self.outcomes[row][cell] = MARKS[report.outcome]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table."""
        if not any(outcome != "not run" for row in self.outcomes.values() for outcome in row.values()):
            return
        terminalreporter.section("every language, every place")
        for line in self.lines():
            terminalreporter.write_line(line.rstrip())

    def lines(self) -> list[str]:
        """Return the table as text."""
        first = max(map(len, self.outcomes)) + 2
        heads = [(title, len(list(group))) for title, group in groupby(CELLS, lambda cell: cell.language.title)]
        lines = [" " * first + "".join(title.ljust(WIDTH * count) for title, count in heads)]
        lines.append(" " * first + "".join(cell.place.title.ljust(WIDTH) for cell in CELLS))
        for row, outcomes in self.outcomes.items():
            marks = (outcomes.get(str(cell), "-").ljust(WIDTH) for cell in CELLS)
            lines.append(row.ljust(first) + "".join(marks))
        for row, reasons in self.missing.items():
            lines += [f"- {row}, {who}: {reason}" for who, reason in reasons.items()]
        return lines


def missing_of(row_needs: str, cell: Cell) -> str | None:
    """Return why a cell's language has not what a row needs, None if it has."""
    found = getattr(cell.language, row_needs) if row_needs else None
    return found.reason if isinstance(found, Missing) else None
