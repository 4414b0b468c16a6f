"""Two opinions, and what becomes of them."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from mixnn_loader.method.opinions import combined


def distributions(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randn(20, 4, generator=generator).softmax(dim=1), 0.01 + torch.rand(20, 4, generator=generator)
    return one, other / other.sum(dim=1, keepdim=True)


@given(seed=st.integers(0, 1000))
def test_laws(seed: int) -> None:
    one, other = distributions(seed)
    both = combined(one, other)
    torch.testing.assert_close(both.sum(dim=1), torch.ones(20))
    torch.testing.assert_close(both, combined(other, one))
    torch.testing.assert_close(combined(one, one), one, rtol=1e-3, atol=1e-5)
    expected = (one * other).sqrt()
    torch.testing.assert_close(both, expected / expected.sum(dim=1, keepdim=True), rtol=1e-3, atol=1e-3)


def test_an_undecided_one_changes_no_order_and_none_rules_a_class_out() -> None:
    one, _ = distributions(0)
    undecided = torch.full_like(one, 0.25)
    assert torch.equal(combined(one, undecided).argsort(dim=1), one.argsort(dim=1))
    opposite = combined(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(opposite, torch.tensor([[0.5, 0.5]]))
    assert combined(one.bfloat16(), one.bfloat16()).dtype == torch.float32
