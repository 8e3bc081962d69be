"""What an audit says, and how it is shown: a table, and W_x beside W_y."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

Verdict = Literal["pass", "note", "fail"]


@dataclass(frozen=True)
class Check:
    """One question that the audit asked: its name, the verdict, and the evidence in words."""

    name: str
    verdict: Verdict
    evidence: str


@dataclass(frozen=True, eq=False)
class Report:
    """What the audit found. Prints as a table; in a notebook it also draws W_x beside W_y.

    Attributes:
        checks: every check with its verdict and evidence, in the order in which they were made.
        w_x: ``(B, B)``, the mixing matrix of the features in one call, or None if no call succeeded.
        w_y: ``(B, B)``, the mixing matrix of the labels in the same call, or None.
    """

    checks: list[Check] = field(default_factory=list)
    w_x: Tensor | None = None
    w_y: Tensor | None = None

    @property
    def ok(self) -> bool:
        """Whether no check failed; notes are allowed."""
        return all(check.verdict != "fail" for check in self.checks)

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [check.name for check in self.checks if check.verdict == "fail"]

    @property
    def noted(self) -> list[str]:
        """Names of the checks with a note."""
        return [check.name for check in self.checks if check.verdict == "note"]

    def __getitem__(self, name: str) -> Check:
        """The check of this name."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check named {name!r}; there are {', '.join(check.name for check in self.checks)}")

    def summary(self) -> str:
        """One line: the verdict and what failed or was noted."""
        parts = [f"{len(self.failed)} failed"] if self.failed else []
        parts += [f"{len(self.noted)} noted"] if self.noted else []
        return ("FAIL" if self.failed else "OK") + f": {len(self.checks)} checks" + "".join(f", {p}" for p in parts)

    def __str__(self) -> str:
        width = max([len(check.name) for check in self.checks], default=0)
        rows = [f"{check.verdict:<4}  {check.name:<{width}}  {check.evidence}" for check in self.checks]
        return "\n".join([self.summary(), *rows])

    __repr__ = __str__

    def draw(self) -> str:
        """W_x beside W_y as text, one character a weight from blank (0) to a full block (1)."""
        if self.w_x is None or self.w_y is None:
            return "no matrices: the mixup never returned a batch of labelled features"
        shades = " ░▒▓█"
        lines = [f"{'W_x':<{2 * self.w_x.shape[1]}}   W_y"]
        for row_x, row_y in zip(self.w_x.tolist(), self.w_y.tolist()):
            cells = ["".join(2 * shades[round(4 * min(max(w, 0), 1))] for w in row) for row in (row_x, row_y)]
            lines.append("   ".join(cells))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        colours = {"pass": "#2a7f3f", "note": "#8a6100", "fail": "#b3261e"}
        rows = "".join(
            f'<tr><td><strong style="color:#fff;background:{colours[c.verdict]};padding:0 .5em;border-radius:.3em">'
            f"{c.verdict}</strong></td><td>{html.escape(c.name)}</td><td>{html.escape(c.evidence)}</td></tr>"
            for c in self.checks
        )
        matrices = ""
        if self.w_x is not None and self.w_y is not None:
            matrices = _matrix_svg("W_x, the features", self.w_x) + _matrix_svg("W_y, the labels", self.w_y)
        return (
            f'<div class="mixup-report"><p><strong>{html.escape(self.summary())}</strong></p>'
            f'<div style="display:flex;flex-wrap:wrap;gap:1.5em">{matrices}</div>'
            f"<table><thead><tr><th>verdict</th><th>check</th><th>evidence</th></tr></thead><tbody>{rows}</tbody>"
            "</table></div>"
        )


def _matrix_svg(title: str, w: Tensor) -> str:
    """A heat map as inline SVG: white is 0, blue is 1, red is outside [0, 1]."""
    cell = 10
    squares = []
    for i, row in enumerate(w.tolist()):
        for j, value in enumerate(row):
            if value == 0:
                continue
            inside = -1e-3 <= value <= 1 + 1e-3
            colour, opacity = ("#0b5394", min(max(value, 0), 1)) if inside else ("#b3261e", 1)
            squares.append(
                f'<rect x="{j * cell}" y="{i * cell}" width="{cell}" height="{cell}" fill="{colour}" '
                f'fill-opacity="{opacity:.2f}"/>'
            )
    height, width = w.shape[0] * cell, w.shape[1] * cell
    label = html.escape(f"{title}: a {w.shape[0]} by {w.shape[1]} heat map", quote=True)
    return (
        f'<figure style="margin:0"><svg role="img" aria-label="{label}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" style="background:#fff;border:1px solid #888">{"".join(squares)}</svg>'
        f"<figcaption>{html.escape(title)}</figcaption></figure>"
    )
