"""What an audit says, and how it is shown: a table, and W_x beside W_y."""

from __future__ import annotations

import html
from dataclasses import dataclass, field, replace
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
        left_out: how many checks were made, passed, and are not in ``checks``: see ``brief``.
    """

    checks: list[Check] = field(default_factory=list)
    w_x: Tensor | None = None
    w_y: Tensor | None = None
    left_out: int = 0

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

    def brief(self) -> Report:
        """The same report without the checks that passed, which its summary still counts."""
        told = [check for check in self.checks if check.verdict != "pass"]
        return replace(self, checks=told, left_out=self.left_out + len(self.checks) - len(told))

    def summary(self) -> str:
        """One line: the verdict, how many checks were made, and how many failed or were noted."""
        parts = [f"{len(self.failed)} failed"] if self.failed else []
        parts += [f"{len(self.noted)} noted"] if self.noted else []
        made = len(self.checks) + self.left_out
        verdict = f"{'FAIL' if self.failed else 'OK'}: {made} check{'s' if made != 1 else ''}"
        return ", ".join([verdict, *parts])

    def __str__(self) -> str:
        width = max([len(check.name) for check in self.checks], default=0)
        rows = [f"{check.verdict:<4}  {check.name:<{width}}  {check.evidence}" for check in self.checks]
        return "\n".join([self.summary(), *rows])

    __repr__ = __str__

    def draw(self) -> str:
        """W_x beside W_y as text, two characters a weight from blank (0) to full blocks (1), ?? for NaN."""
        if self.w_x is None or self.w_y is None:
            return "no matrices: the mixup never returned a batch of labelled features"
        shades = " ░▒▓█"

        def cell(weight: float) -> str:
            return "??" if weight != weight else 2 * shades[round(4 * min(max(weight, 0), 1))]

        lines = [f"{'W_x':<{2 * self.w_x.shape[1]}}   W_y"]
        for row_x, row_y in zip(self.w_x.tolist(), self.w_y.tolist()):
            lines.append("   ".join("".join(map(cell, row)) for row in (row_x, row_y)))
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
            matrices = _matrix_svg("x", "the features", self.w_x) + _matrix_svg("y", "the labels", self.w_y)
        return (
            f'<div class="mixup-report"><p><strong>{html.escape(self.summary())}</strong></p>'
            f'<div style="display:flex;flex-wrap:wrap;gap:1.5em">{matrices}</div>'
            f"<table><thead><tr><th>verdict</th><th>check</th><th>evidence</th></tr></thead><tbody>{rows}</tbody>"
            "</table></div>"
        )


def _matrix_svg(index: str, of: str, w: Tensor) -> str:
    """The heat map of a matrix as inline SVG: white is 0, blue is 1, red is outside [0, 1]."""
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
    label = f"W_{index}, {of}: a {w.shape[0]} by {w.shape[1]} heat map"
    return (
        f'<figure style="margin:0"><svg role="img" aria-label="{label}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" style="background:#fff;border:1px solid #888">{"".join(squares)}</svg>'
        f"<figcaption>W<sub>{index}</sub>, {of}</figcaption></figure>"
    )
