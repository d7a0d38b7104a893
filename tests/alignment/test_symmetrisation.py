"""Two alignments made one."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from seq2seq.alignment.symmetrisation import Symmetrisation, symmetrise

Links = set[tuple[int, int]]
LINKS = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


def published(forward: Links, backward: Links, final: str) -> Links:
    """The pseudo-code of Koehn et al. 2005 ("Edinburgh system description", IWSLT), cell by cell."""
    union, links = forward | backward, forward & backward

    def free(axis: int, word: int) -> bool:
        return all(link[axis] != word for link in links)

    while True:
        before = set(links)
        for j in range(6):
            for i in range(6):
                if (i, j) in links:
                    for a, b in ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)):
                        if (free(0, i + a) or free(1, j + b)) and (i + a, j + b) in union:
                            links.add((i + a, j + b))
        if links == before:
            break
    for direction in (forward, backward) if final else ():
        for j in range(6):
            for i in range(6):
                both = free(0, i) and free(1, j)
                if (i, j) in direction and (both if final == "and" else free(0, i) or free(1, j)):
                    links.add((i, j))
    return links


@given(forward=LINKS, backward=LINKS)
def test_as_published(forward: Links, backward: Links) -> None:
    assert symmetrise(forward, backward, "grow-diag") == published(forward, backward, "")
    assert symmetrise(forward, backward, "grow-diag-final") == published(forward, backward, "or")
    assert symmetrise(forward, backward, "grow-diag-final-and") == published(forward, backward, "and")


@given(forward=LINKS, backward=LINKS)
def test_each_method_holds_the_one_before(forward: Links, backward: Links) -> None:
    found = [symmetrise(forward, backward, method) for method in get_args(Symmetrisation)]
    assert found[0] == forward & backward
    assert found[-1] == forward | backward
    assert found[0] <= found[1] <= found[2]
    assert all(links <= found[-1] and found[0] <= links for links in found)


@given(links=LINKS)
def test_an_alignment_with_itself(links: Links) -> None:
    assert all(symmetrise(links, links, method) == links for method in get_args(Symmetrisation))
