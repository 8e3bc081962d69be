"""Boxes on paper: what is folded online lies open, proofs are text, and code in a box follows it.

LaTeX breaks a box across pages badly where it holds the frame of a code cell.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx_exercise.nodes import exercise_enumerable_node, exercise_node, solution_node

_BOXES = (nodes.Admonition, exercise_enumerable_node, exercise_node, solution_node)


class PrintedBoxes(SphinxPostTransform):
    """Brings boxes into a form that LaTeX sets well."""

    default_priority = 30  # after exercises and solutions have their titles
    formats = ("latex",)

    def run(self, **kwargs: object) -> None:
        """Called by Sphinx for each document that is written."""
        for folded in list(self.document.findall(nodes.container)):
            if folded.get("design_component") == "dropdown" and folded.get("has_title"):
                head, *rest = folded.children
                folded.parent.replace(folded, nodes.admonition("", nodes.title("", "", *head.children), *rest))
        for box in list(self.document.findall(lambda node: isinstance(node, _BOXES))):
            if "proof" in box.get("classes", []) and not isinstance(box.children[0], nodes.title):
                box.parent.replace(box, _proof(box.children))
            else:
                _release_code(box)
        for picture in self.document.findall(nodes.image):
            if not isinstance(picture.parent, nodes.TextElement):
                picture.setdefault("align", "center")


def _proof(children: list[nodes.Node]) -> list[nodes.Node]:
    """The paragraphs of a proof, from its first word in italics to a square."""
    first = children[0].next_node(nodes.Text)
    word, _, rest = first.partition(" ")
    first.parent.replace(first, [nodes.emphasis("", word), nodes.Text(f" {rest}")])
    last = children[-1]
    if not isinstance(last, nodes.paragraph):
        last = nodes.paragraph()
        children = [*children, last]
    last += nodes.raw("", r"\hfill\(\square\)", format="latex")
    return children


def _release_code(box: nodes.Element) -> None:
    """Moves the first code cell of a box, and what comes after it, out of the box."""
    content = next((child for child in box.children if isinstance(child, nodes.section)), box)  # a solution has one
    for k, child in enumerate(content.children):
        if isinstance(child, nodes.container) and "cell" in child["classes"]:
            released = content.children[k:]
            del content[k:]
            place = box.parent.index(box) + 1
            box.parent[place:place] = released
            return


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_post_transform(PrintedBoxes)
