"""Symmetrisation of two directed word alignments (Och and Ney 2003; Koehn et al. 2003)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Links = set[tuple[int, int]]
Symmetrisation = Literal["intersection", "grow-diag", "grow-diag-final-and", "grow-diag-final", "union"]
"""The methods, from the highest precision to the highest recall."""

_NEIGHBOURS = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


def symmetrise(
    forward: Iterable[tuple[int, int]], backward: Iterable[tuple[int, int]], method: Symmetrisation
) -> Links:
    """Symmetrised links (source, target) of a source-to-target model and the reverse model.

    Args:
        forward: links (source, target).
        backward: links of the reverse model, as (source, target) too.
        method: `grow-diag` starts from the intersection and adds neighbouring links of the union, diagonals included,
            if one of their words has no link yet; `final` then adds links of either direction if one word has no link,
            `final-and` if both have none.
    """
    one, other = set(forward), set(backward)
    match method:
        case "union":
            return one | other
        case "intersection":
            return one & other
        case "grow-diag":
            return _grown(one & other, one | other)
        case "grow-diag-final" | "grow-diag-final-and":
            links = _grown(one & other, one | other)
            for direction in (one, other):
                _complete(links, direction, both=method.endswith("and"))
            return links


def _grown(links: Links, union: Links) -> Links:
    """`links` grown by neighbours in `union` that reach a word without a link, until there are none.

    The order is that of the published algorithm: a scan also visits the links that it adds.
    """
    sources, targets = {i for i, _ in links}, {j for _, j in links}
    scan = sorted(union, key=_by_target)
    before = -1
    while before < len(links):
        before = len(links)
        for i, j in scan:
            if (i, j) not in links:
                continue
            for down, right in _NEIGHBOURS:
                near = (i + down, j + right)
                if near in union and near not in links and (near[0] not in sources or near[1] not in targets):
                    links.add(near)
                    sources.add(near[0])
                    targets.add(near[1])
    return links


def _complete(links: Links, direction: Links, *, both: bool) -> None:
    """Add the links of one direction, in order, if one of their words (or `both`) has no link."""
    sources, targets = {i for i, _ in links}, {j for _, j in links}
    for i, j in sorted(direction, key=_by_target):
        free = (i not in sources, j not in targets)
        if all(free) if both else any(free):
            links.add((i, j))
            sources.add(i)
            targets.add(j)


def _by_target(link: tuple[int, int]) -> tuple[int, int]:
    return link[1], link[0]
