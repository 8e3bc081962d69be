"""The box that tells a reader which data a chapter runs on."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Announcement:
    """Shown in a notebook: which data this is, real or offline sample. The same text on every machine."""

    title: str
    is_sample: bool
    counts: Mapping[str, int]
    licence: str
    lossy: bool
    notes: tuple[str, ...]
    name: str

    @property
    def heading(self) -> str:
        """The one line that matters."""
        if self.is_sample:
            return f"Offline sample, not the real data: {self.title}"
        return f"Real data: {self.title}" + (" (lossy copy)" if self.lossy else "")

    @property
    def lines(self) -> list[str]:
        """What else the box says: counts, licence, notes, and for a sample how to get the real set."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        # A note that counts nothing is not shown; it stays in the card, whose text the fingerprint covers.
        notes = [note for note in self.notes if not note.startswith("0 ")]
        lines = [f"Examples: {counts}.", f"Licence: {self.licence}.", *notes]
        if self.is_sample:
            lines.append(f"For the real data run: python -m mixup_modalities data prepare {self.name}")
        return lines

    def __repr__(self) -> str:
        return "\n  ".join([self.heading, *self.lines])

    def _repr_markdown_(self) -> str:
        return "\n".join([f"> **{self.heading}**", ">", *(f"> - {line}" for line in self.lines)])

    def _repr_html_(self) -> str:
        # Colours are set only where they read on white and on black; the text takes the page's own colour.
        kind, colour = ("sample", "#d55e00") if self.is_sample else ("real", "#0072b2")
        items = "".join(f"<li>{escape(line)}</li>" for line in self.lines)
        return (
            f'<div class="mixup-data-box mixup-data-box-{kind}" role="note" style="border: 2px solid {colour}; '
            f'border-left-width: 12px; border-radius: 4px; padding: 0.6em 1em; margin: 0.5em 0">'
            f'<p style="margin: 0; font-size: 1.15em"><strong>{escape(self.heading)}</strong></p>'
            f'<ul style="margin: 0.4em 0 0; padding-left: 1.2em">{items}</ul></div>'
        )
