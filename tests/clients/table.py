"""docs/clients.md: what each client honours and shows, from what it did in these tests."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import pytest

import workspace

ROWS = pytest.StashKey[dict]()
DOCUMENT = workspace.ROOT / "docs" / "clients.md"
HEAD = ("Client", "Proxy variables it honours", "CA variables it honours", "Needs as well", "How a refusal shows")


@dataclasses.dataclass
class Row:
    client: str
    proxy: list[str] = dataclasses.field(default_factory=list)
    ca: list[str] = dataclasses.field(default_factory=list)
    needs: list[str] = dataclasses.field(default_factory=list)
    refusal: str = ""

    def cells(self) -> tuple[str, ...]:
        def code(names: list[str]) -> str:
            return ", ".join(f"`{n}`" for n in sorted(names, key=str.lower)) or "none"

        return (self.client, code(self.proxy), code(self.ca), code(self.needs) if self.needs else "", f"`{self.refusal}`" if self.refusal else "")


def facts(rows: dict[str, Row]) -> dict[str, tuple[str, ...]]:
    """Client → its cells, as found."""
    return {row.client: row.cells() for row in rows.values()}


def render(rows: dict[str, tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in rows[name]) + " |" for name in sorted(rows, key=str.lower)]
    return "\n".join(lines) + "\n"


def committed(text: str) -> dict[str, tuple[str, ...]]:
    """The table's facts: client → its cells."""
    rows = {}
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith(("| Client", "| ---")):
            cells = tuple(c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1])
            rows[cells[0]] = cells
    return rows


def replace(document: pathlib.Path, found: dict[str, tuple[str, ...]]) -> None:
    """Puts the table in its place in the document, between the two marks; what was not tried stays as it is."""
    rows = committed(document.read_text()) | found
    before, _, rest = document.read_text().partition("<!-- table -->\n")
    _, _, after = rest.partition("<!-- /table -->")
    document.write_text(f"{before}<!-- table -->\n{render(rows)}<!-- /table -->{after}")


def stable(text: str) -> str:
    """A line of output without what differs from run to run, or from release to release."""
    text = re.sub(r"\b[dt]-[0-9A-Za-z]{6,}\b", "…", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:…", text)
    text = re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", text)
    return re.sub(r"\s+", " ", text).strip()


def showing(output: str, reason: str) -> str:
    """The last line of a client's output that names the reason, up to that."""
    lines = [stable(line) for line in output.splitlines() if reason in line]
    line = next((line for line in reversed(lines) if f"Remit: {reason}" in line), lines[-1] if lines else "")
    before, _, after = line.partition(reason)
    if len(before) > 120:
        before = before[:60].rstrip() + " … " + before[-50:].lstrip()
    return f"{before}{reason} …" if len(after) > 3 else f"{before}{reason}{after}"
