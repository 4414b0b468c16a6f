"""Counts of this process and of all."""

import torch

from mixnn_loader.run.tally import Tally


def test_a_tally_adds_up_over_processes_and_goes_on_from_a_state() -> None:
    tally = Tally()
    assert tally.share() is None
    tally.add(torch.tensor([1.0, 4.0]))
    tally.add_up(lambda own: 3 * own)
    tally.add(torch.tensor([2.0, 4.0]))
    assert tally.share() == (3 + 2) / (12 + 4)
    again = Tally(tally.state())
    tally.add(torch.tensor([4.0, 4.0]))
    assert again.share() == 5 / 16
    again.add_up(lambda own: 2 * own)
    assert again.share() == (3 + 4) / (12 + 8)
