"""The training set in batches, shared among processes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mixnn_loader.data.scan_batches import MemberBatches


@given(st.integers(0, 50), st.integers(1, 9), st.integers(1, 6))
def test_processes_share_the_batches_of_a_single_one(num_members: int, batch_size: int, num_processes: int) -> None:
    members = 3 * np.arange(num_members) + 1
    numbered: dict[int, list[int]] = {}
    lengths = []
    for rank in range(num_processes):
        batches = MemberBatches(np.arange(2), batch_size)
        batches.share(members, rank, num_processes)
        own = list(batches)
        assert len(batches) == len(own)
        assert [i for _, indices in own for i in indices.tolist()] == batches.own_indices().tolist()
        numbered |= {number: indices.tolist() for number, indices in own}
        lengths.append(len(own))
    single = [members[start : start + batch_size].tolist() for start in range(0, num_members, batch_size)]
    assert [numbered[number] for number in sorted(numbered)] == single
    assert sum(lengths) == len(single)
    assert max(lengths) - min(lengths) <= 1
