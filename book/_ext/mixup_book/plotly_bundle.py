"""Cut plotly.js down to what the book draws.

The bundle inside the plotly package draws every kind of trace (maps, 3-D, finance) and weighs 1.5 MB even when
compressed: more than everything else on a page. It is a list of modules in a known form,
`name=W((exports,module)=>{...})`, and one list of traces, `register([a(),b(),...])`. Traces that no figure uses are
struck from that list, and modules that nothing calls any more are emptied. Whatever looks like a call of a module
counts as one, so too much is kept rather than too little.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Set

# One step of the scan: whatever can hold a bracket without meaning one, or a bracket.
_TOKEN = re.compile(
    r"""
      (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    | (?P<comment>//[^\n]*|/\*.*?\*/)
    | (?P<tick>`)
    | (?P<open>[\[({])
    | (?P<close>[\])}])
    | (?P<slash>/)
    """,
    re.VERBOSE | re.DOTALL,
)
_REGEX = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*")
_REGEX_MAY_FOLLOW = re.compile(
    r"(?:^|[=(,;:!&|?{}\[+\-*%<>~^]|\b(?:return|typeof|case|in|of|throw|delete|void|else|do))\s*$"
)
_TEMPLATE_PART = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*(`|\$\{)", re.DOTALL)
_MODULE = re.compile(r"(?<![\w$.])([\w$]+)=([\w$]+)\(\(?[\w$,]*\)?=>\{")
_CALL = re.compile(r"(?<![\w$.])([\w$]+)\(\)")
_REGISTER = re.compile(r"\.register\(\[((?:[\w$]+\(\),?){20,})\]\)")
_TRACE = re.compile(r'moduleType:"trace",name:"(\w+)"')


class UnknownForm(ValueError):
    """The bundle is not built as this module expects."""


def cut(source: str, traces: Set[str]) -> str:
    """The bundle with only the given kinds of trace.

    Args:
        source: text of plotly.min.js.
        traces: kinds to keep, such as `{"heatmap", "bar"}`; "scatter" always stays.

    Returns:
        A bundle that draws these, a good deal shorter.

    Raises:
        UnknownForm: the text is not of the known form, or has no such trace.
    """
    modules = _modules(source)
    registers = list(_REGISTER.finditer(source))
    if len(registers) != 1:
        raise UnknownForm(f"expected one list of registered traces, found {len(registers)}")
    start, end = registers[0].span(1)
    entries = registers[0][1].rstrip(",").split(",")
    kind = {entry: _kind(source, modules, entry.removesuffix("()")) for entry in entries}
    missing = set(traces) - set(kind.values()) - {"scatter"}
    if missing:
        raise UnknownForm(f"no trace called {', '.join(sorted(missing))} in this plotly.js")
    kept = ",".join(entry for entry in entries if kind[entry] in traces)

    # The text in pieces: bodies of modules, and what stands between them.
    pieces: list[_Piece] = []
    last = 0
    for name, (low, high) in sorted(modules.items(), key=lambda item: item[1]):
        if low < last:
            continue  # a module inside another goes with it
        pieces += [_between(source[last:low]), _Piece({name}, "", source[low:high], "")]
        if low <= start and end <= high:
            pieces[-1].text = source[low:start] + kept + source[end:high]
        last = high
    pieces.append(_Piece(set(), source[last:], "", ""))

    owner = {name: piece for piece in pieces for name in piece.names}
    needed: set[int] = set()
    todo = [piece for piece in pieces if not piece.names]
    while todo:
        piece = todo.pop()
        if id(piece) not in needed:
            needed.add(id(piece))
            calls = _CALL.findall(piece.head + piece.text + piece.tail)
            todo += [owner[name] for name in calls if name in owner]
    return "".join(p.head + (p.text if id(p) in needed else "") + p.tail for p in pieces)


@dataclasses.dataclass
class _Piece:
    """Text that can go if none of its `names` is called; `head` and `tail` always stay."""

    names: set[str]
    head: str
    text: str
    tail: str


def _between(text: str) -> _Piece:
    """What stands between two modules: modules of the other form, `name=Ea(()=>{...})`, with functions; or glue."""
    match = re.fullmatch(r"(\}\)+;)(.*;|.*\})(var [\w$]+=[\w$]+\(\(?[\w$,]*\)?=>\{)", text, re.DOTALL)
    names = set(re.findall(r"(?<![\w$.])([\w$]+)=[\w$]+\(\(\)=>\{", match[2])) if match else set()
    return _Piece(names, match[1], match[2], match[3]) if match and names else _Piece(set(), text, "", "")


def _kind(source: str, modules: dict[str, tuple[int, int]], name: str, depth: int = 0) -> str:
    """Follows `name` through re-exporting modules to the trace it defines ("" if it defines none)."""
    low, high = modules[name]
    found = _TRACE.search(source, low, high)
    if found:
        return found[1]
    again = re.search(r"\.exports=([\w$]+)\(\)", source[low:high])
    return _kind(source, modules, again[1], depth + 1) if again and again[1] in modules and depth < 4 else ""


def _modules(source: str) -> dict[str, tuple[int, int]]:
    """Name -> where the body of the module begins and ends (without its braces)."""
    helper = re.search(r"([\w$]+)=\(e,t\)=>\(\)=>\{try\{return t\|\|e\(", source)
    if not helper:
        raise UnknownForm("the helper that makes modules is not there")
    starts = {m.end() - 1: m[1] for m in _MODULE.finditer(source) if m[2] == helper[1]}
    found: dict[str, tuple[int, int]] = {}
    stack: list[tuple[str, int]] = []
    position = 0
    while match := _TOKEN.search(source, position):
        position, kind = match.end(), match.lastgroup
        if kind == "tick":
            position = _template(source, position, stack)
        elif kind == "slash":
            if _REGEX_MAY_FOLLOW.search(source[max(0, match.start() - 12) : match.start()]):
                regex = _REGEX.match(source, match.start())
                if not regex:
                    raise UnknownForm(f"a regular expression without end at {match.start()}")
                position = regex.end()
        elif kind == "open":
            stack.append((match[0], match.start()))
        elif kind == "close":
            if not stack or stack[-1][0][-1] + match[0] not in ("()", "[]", "{}"):
                raise UnknownForm(f"brackets do not match at {match.start()}")
            opened, where = stack.pop()
            if opened == "${":
                position = _template(source, position, stack)
            elif where in starts:
                found[starts[where]] = (where + 1, match.start())
    if stack or len(found) < 100:
        raise UnknownForm(f"{len(stack)} brackets left open, {len(found)} modules found")
    return found


def _template(source: str, position: int, stack: list[tuple[str, int]]) -> int:
    """Skips a template string from `position` to its end or to its next `${`, which goes on the stack."""
    part = _TEMPLATE_PART.match(source, position)
    if not part:
        raise UnknownForm(f"a template string without end at {position}")
    if part[1] == "${":
        stack.append(("${", part.end() - 2))
    return part.end()
