"""Sentences that begin alike, laid out so that the model reads every shared beginning once.

What a causal model computes at a token depends on nothing but the tokens up to it. So the sequences of a batch are
merged to a tree: a node is a token together with all that stands before it. Of BLiMP, where the sentences of a pair
begin alike and a paradigm is written from few words, 56% of the tokens are left. Only attention, which is a small part
of the work, sees whole sequences.

Shape letters: S all sequences, B sequences of one batch, T the longest of them, N nodes, M predicted tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from firstwords.model.attention import AttentionGroup, Layout, of_like_length, sent

_NONE = -1


@dataclass(frozen=True, slots=True)
class PrefixBatch:
    """Some sequences as a tree; all that has the letter M goes through one sequence after the other.

    sequences, lengths: their numbers, and how many tokens of each are predicted. ids_N: the token of each node.
    nodes_M: the node that each predicted token follows. targets_M: the predicted token. layout: which node stands in
    each place of the sequences, padded to their neighbours' width.
    """

    sequences: np.ndarray
    lengths: np.ndarray
    ids_N: Tensor
    nodes_M: Tensor
    targets_M: Tensor
    layout: Layout


def prefix_batches(
    sequences: Sequence[tuple[int, ...]], nodes: int, device: torch.device | str = "cpu"
) -> Iterator[PrefixBatch]:
    """Merge sequences of token ids to trees of about `nodes` nodes; the one sequence that fills a tree is its last.

    Each sequence has two tokens or more. Its first is not predicted, its last is nothing but predicted.
    """
    # In alphabetical order, those that begin alike are neighbours.
    order_S = np.array(sorted(range(len(sequences)), key=lambda i: sequences[i]))
    inputs_ST = _table([sequences[i][:-1] for i in order_S])
    targets_ST = _table([sequences[i][1:] for i in order_S])
    new_S = _is_new(inputs_ST).sum(axis=1)
    batch_S = (np.cumsum(new_S) - new_S) // nodes
    borders = np.flatnonzero(np.diff(batch_S)) + 1
    for rows in np.split(np.arange(len(order_S)), borders):
        yield _merged(order_S[rows], inputs_ST[rows], targets_ST[rows], device)


def _table(sequences: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Sequences as the rows of one table, filled up with _NONE."""
    lengths_S = np.array([len(ids) for ids in sequences])
    table_ST = np.full((len(sequences), lengths_S.max()), _NONE, dtype=np.int32)
    table_ST[np.arange(table_ST.shape[1]) < lengths_S[:, None]] = np.concatenate(sequences)
    return table_ST


def _is_new(inputs_BT: np.ndarray) -> np.ndarray:
    """Whether a row's beginning, up to and with each token, is another than that of the row above."""
    new_BT = np.ones(inputs_BT.shape, dtype=bool)
    new_BT[1:] = np.logical_or.accumulate(inputs_BT[1:] != inputs_BT[:-1], axis=1)
    return new_BT & (inputs_BT != _NONE)


def _merged(
    sequences: np.ndarray, inputs_BT: np.ndarray, targets_BT: np.ndarray, device: torch.device | str
) -> PrefixBatch:
    new_BT = _is_new(inputs_BT)
    # Nodes are numbered as they come; where a row repeats the one above, it takes that row's number.
    numbers_BT = np.where(new_BT, new_BT.cumsum().reshape(new_BT.shape) - 1, 0)
    nodes_BT = np.maximum.accumulate(numbers_BT, axis=0)

    # Attention is cheapest where neighbours have similar lengths.
    by_length_B = np.argsort((inputs_BT != _NONE).sum(axis=1), kind="stable")
    filled_BT, nodes_BT = (inputs_BT != _NONE)[by_length_B], nodes_BT[by_length_B]
    lengths_B = filled_BT.sum(axis=1)
    groups: list[AttentionGroup] = []
    expand, places = [], []
    for alike in of_like_length(lengths_B.tolist()):
        width = int(lengths_B[alike].max())
        first = sum(group.tokens for group in groups)
        rows = lengths_B[alike].size
        groups.append(AttentionGroup(rows * width, rows, width, None))
        # What stands behind a sequence's end is some node, and no token of the sequence sees it.
        expand.append(nodes_BT[alike, :width].ravel())
        places.append(first + np.flatnonzero(filled_BT[alike, :width]))
    nodes_M = nodes_BT[filled_BT]
    pick_N = np.empty(new_BT.sum(), dtype=np.int64)
    pick_N[nodes_M] = np.concatenate(places)

    def tensor(values: np.ndarray) -> Tensor:
        return sent(torch.from_numpy(values.astype(np.int64)), device)

    return PrefixBatch(
        sequences=sequences[by_length_B],
        lengths=lengths_B,
        ids_N=tensor(inputs_BT[new_BT]),
        nodes_M=tensor(nodes_M),
        targets_M=tensor(targets_BT[by_length_B][filled_BT]),
        layout=Layout(
            positions_N=tensor(new_BT.nonzero()[1]),
            groups=tuple(groups),
            expand=tensor(np.concatenate(expand)),
            pick=tensor(pick_N),
        ),
    )
