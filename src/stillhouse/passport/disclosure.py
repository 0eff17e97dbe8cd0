"""Prove that no row of a lab is later than a day, without showing the rows: a Merkle tree over sorted (lab, day) leaves.

The tree is RFC 9162's (leaves and nodes hashed under different prefixes), over SHA-256; the root is hashed with the number of
leaves. Two leaves that stand next to each other leave no room between them: where one is at most (lab, day) and the next is of a
later lab, there is none in between; the first and the last leaf leave none outside of them.

Covers: the list that the passport committed to, and that it is sorted where the two leaves stand. Does not cover: whether that
list is what the model was made of (the signer's log says so), an unsorted list elsewhere in the tree, and the two neighbours,
which the proof shows.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from stillhouse.errors import UsageError
from stillhouse.policy.known import fold
from stillhouse.policy.registry import is_day

# Sorts after every day: a row whose day nobody knows may be later than any.
UNKNOWN_DAY = "unknown"


class Leaf(NamedTuple):
    """A lab (in lower case), a day or ``UNKNOWN_DAY``, and how many rows carry them."""

    lab: str
    day: str
    rows: int


class Shown(msgspec.Struct, frozen=True):
    """A leaf of the list, where it stands, and the hashes that lead from it to the root."""

    lab: str
    day: str
    rows: int
    index: int
    path: tuple[str, ...]


class Proof(msgspec.Struct, frozen=True):
    """That no leaf lies after (lab, after) and still of that lab. A side is None where the list begins or ends there."""

    lab: str
    after: str
    root: str
    leaves: int
    left: Shown | None
    right: Shown | None


def commit(leaves: Sequence[Leaf]) -> dict[str, Any]:
    """What a passport says of the list: its root and its length."""
    return {
        "root": _root(leaves),
        "leaves": len(leaves),
        "hash": "sha256",
        "tree": "RFC 9162 over sorted (lab, day, rows)",
    }


def prove(leaves: Sequence[Leaf], lab: str, after: str) -> Proof:
    """Raises UsageError where there is such a row, or no such day."""
    leaves, lab = sorted(leaves), fold(lab)
    if not is_day(after):
        raise UsageError(f"{after!r} is no day.", next_step="Write YYYY-MM-DD.")
    found = [leaf for leaf in leaves if leaf.lab == lab and leaf.day > after]
    if found:
        what = f"a day that is {UNKNOWN_DAY}" if found[-1].day == UNKNOWN_DAY else found[-1].day
        raise UsageError(f"This cannot be proved: there are rows of {lab} of {what}.", next_step="Choose another day.")
    place = sum((leaf.lab, leaf.day) <= (lab, after) for leaf in leaves)
    return Proof(
        lab=lab,
        after=after,
        root=_root(leaves),
        leaves=len(leaves),
        left=_show(leaves, place - 1) if place else None,
        right=_show(leaves, place) if place < len(leaves) else None,
    )


def why_not(proof: Proof, root: str, leaves: int) -> str:
    """What is wrong with a proof for a commitment; empty where it holds."""
    if (proof.root, proof.leaves) != (root, leaves):
        return "it is about another list than the one that the passport commits to"
    if not is_day(proof.after) or proof.lab != fold(proof.lab):
        return "it does not say of which lab and day it is"
    if leaves == 0:
        return "" if root == _root([]) else "the list is not empty"
    left, right = proof.left, proof.right
    for shown in (left, right):
        if shown is not None and _root_of(shown, leaves) != root:
            return f"the leaf {shown.lab} {shown.day} is not in the list"
    if left is not None and (left.lab, left.day) > (proof.lab, proof.after):
        return "its left leaf lies behind what is to be proved"
    if right is not None and right.lab <= proof.lab:
        return "its right leaf is one of those that must not be there"
    if (left.index + 1 if left else 0) != (right.index if right else leaves):
        return "its leaves are not next to each other"
    return ""


def _show(leaves: Sequence[Leaf], index: int) -> Shown:
    hashes = [_leaf(leaf) for leaf in leaves]
    return Shown(*leaves[index], index, tuple(step.hex() for step in _path(hashes, index)))


def _root(leaves: Sequence[Leaf]) -> str:
    return _sized(_tree([_leaf(leaf) for leaf in leaves]), len(leaves))


def _sized(tree: bytes, leaves: int) -> str:
    return hashlib.sha256(b"\x02" + leaves.to_bytes(8, "big") + tree).hexdigest()


def _leaf(leaf: Leaf) -> bytes:
    return hashlib.sha256(b"\x00" + msgspec.json.encode([leaf.lab, leaf.day, leaf.rows])).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _tree(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return _node(_tree(hashes[:half]), _tree(hashes[half:]))


def _path(hashes: Sequence[bytes], index: int) -> list[bytes]:
    if len(hashes) == 1:
        return []
    half = 1 << (len(hashes) - 1).bit_length() - 1
    if index < half:
        return [*_path(hashes[:half], index), _tree(hashes[half:])]
    return [*_path(hashes[half:], index - half), _tree(hashes[:half])]


def _root_of(shown: Shown, leaves: int) -> str:
    """RFC 9162, section 2.1.3.2: the root that a leaf and its path lead to; empty where the path has another length."""
    try:
        path = [bytes.fromhex(step) for step in shown.path]
    except ValueError:
        return ""
    index, last = shown.index, leaves - 1
    if not 0 <= index <= last:
        return ""
    found = _leaf(Leaf(shown.lab, shown.day, shown.rows))
    for step in path:
        if last == 0:
            return ""
        if index & 1 or index == last:
            found = _node(step, found)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            found = _node(found, step)
        index, last = index >> 1, last >> 1
    return _sized(found, leaves) if last == 0 else ""
