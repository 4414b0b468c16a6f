"""Which part of the inputs is mixed how: against NumPy."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from mixnn_loader.method.input_rules import InputRules

B, K = 3, 2
PLACES = torch.tensor([[1, 2], [2, 0], [0, 1]])
WEIGHTS = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
TAKES_PART = WEIGHTS.numpy() > 0


def neighbors(rows: Tensor) -> Tensor:
    return rows[PLACES]


def mixed(inputs: Any, rules: Any = None, *, has_layer: bool = False) -> Any:
    found = InputRules(rules, has_layer=has_layer)
    found.check(inputs)
    return found.mix(inputs, B, neighbors, WEIGHTS)


def expected_mean(rows: Tensor) -> Any:
    groups = np.concatenate([rows.numpy()[:B, None], rows.numpy()[PLACES.numpy()]], axis=1)
    return np.einsum("bk,bk...->b...", WEIGHTS.numpy(), groups)


def expected_largest(rows: Tensor) -> Any:
    groups = np.concatenate([rows.numpy()[:B, None], rows.numpy()[PLACES.numpy()]], axis=1)
    return np.stack([groups[i, TAKES_PART[i]].max(axis=0) for i in range(B)])


@pytest.mark.parametrize("shape", [(), (4,), (2, 4)])
def test_numbers_are_averaged(shape: tuple[int, ...]) -> None:
    rows = torch.randn(B, *shape)
    np.testing.assert_allclose(mixed(rows), expected_mean(rows), rtol=1e-6)
    np.testing.assert_allclose(mixed(rows, "mean"), expected_mean(rows), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
@pytest.mark.parametrize("rule", ["or", "max"])
@pytest.mark.parametrize("shape", [(), (5,), (2, 5)])
def test_masks_and_lengths_are_of_those_that_take_part(
    dtype: torch.dtype, rule: str, shape: tuple[int, ...], generator: torch.Generator
) -> None:
    rows = torch.randint(2 if dtype == torch.bool else 9, (B, *shape), generator=generator).to(dtype)
    found = mixed(rows, rule)
    assert found.dtype == dtype
    assert (found.numpy() == expected_largest(rows)).all()


def test_what_is_ones_own_stays_so() -> None:
    rows = torch.arange(B)
    assert torch.equal(mixed(rows, "own"), rows)


def test_what_goes_to_the_layer_has_the_rows_of_neighbors_too() -> None:
    loaded = torch.arange(B * (K + 1))
    rules = InputRules("layer", has_layer=True)
    found = rules.mix(loaded, B, lambda rows: rows[B:].view(B, K), WEIGHTS)
    assert torch.equal(found, loaded)


def test_a_function_gets_own_rows_neighbors_and_weights() -> None:
    rows = torch.arange(6.0).view(B, 2)

    def nearest(own: Tensor, others: Tensor, weights: Tensor) -> Tensor:
        assert torch.equal(own, rows)
        assert torch.equal(weights, WEIGHTS)
        return others[:, 0]

    assert torch.equal(mixed(rows, nearest), rows[PLACES[:, 0]])


def test_rules_are_nested_as_the_inputs_are() -> None:
    inputs: dict[str, Any] = {
        "input_ids": torch.arange(B * 4).view(B, 4),
        "attention_mask": torch.eye(B, 4, dtype=torch.int64),
        "parts": (torch.randn(B, 2), torch.tensor([5, 2, 9])),
        "pixels": torch.randn(B, 3),
    }
    found = mixed(inputs, {"input_ids": "layer", "attention_mask": "or", "parts": (None, "max")}, has_layer=True)
    assert torch.equal(found["input_ids"], inputs["input_ids"])
    assert (found["attention_mask"].numpy() == expected_largest(inputs["attention_mask"])).all()
    np.testing.assert_allclose(found["parts"][0], expected_mean(inputs["parts"][0]), rtol=1e-6)
    assert (found["parts"][1].numpy() == expected_largest(inputs["parts"][1])).all()
    np.testing.assert_allclose(found["pixels"], expected_mean(inputs["pixels"]), rtol=1e-6)


def test_with_a_layer_names_and_types_tell_what_is_not_said() -> None:
    inputs = {
        "input_ids": torch.arange(B * 4).view(B, 4),
        "attention_mask": torch.eye(B, 4, dtype=torch.int64),
        "padding": torch.eye(B, 4, dtype=torch.int64),
        "flags": torch.eye(B, 4, dtype=torch.bool),
        "lengths": torch.tensor([5, 2, 9]),
        "numbers": torch.randn(B, 3),
    }
    found = mixed(inputs, has_layer=True)
    assert torch.equal(found["input_ids"], inputs["input_ids"])
    for name in ("attention_mask", "padding", "flags", "lengths"):
        assert (found[name].numpy() == expected_largest(inputs[name])).all(), name
    np.testing.assert_allclose(found["numbers"], expected_mean(inputs["numbers"]), rtol=1e-6)


class Named(NamedTuple):
    """Inputs whose names are those of fields."""

    ids: Tensor
    attention_mask: Tensor
    lengths: Tensor


def test_names_of_fields_tell_as_keys_do() -> None:
    inputs = Named(torch.arange(B * 4).view(B, 4), torch.eye(B, 4, dtype=torch.int64), torch.tensor([5, 2, 9]))
    found = mixed(inputs, has_layer=True)
    assert type(found) is Named
    assert torch.equal(found.ids, inputs.ids)
    assert (found.attention_mask.numpy() == expected_largest(inputs.attention_mask)).all()
    assert (found.lengths.numpy() == expected_largest(inputs.lengths)).all()
    assert torch.equal(mixed(inputs, {"attention_mask": "own"}, has_layer=True).attention_mask, inputs.attention_mask)


IDS = torch.zeros(B, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("inputs", "rules", "has_layer", "error", "message"),
    [
        (IDS, None, False, TypeError, r"to be mixed, got torch.int64; convert images .* pass mix_layer=.* or mix="),
        (
            IDS[:, 0],
            None,
            True,
            TypeError,
            r"got one torch.int64 a sample. If .* pass unpack=\(1, 2\)",
        ),
        ({"ids": IDS}, None, False, TypeError, r"got torch.int64 in \['ids'\]; convert"),
        ((IDS, IDS[:, 0]), None, True, TypeError, r"inputs\[1\] are one torch.int64 a sample, which may be lengths or"),
        (IDS, "mean", False, TypeError, r"inputs must be floating-point to be averaged, got torch.int64; pass another"),
        ({"a": IDS}, {"b": "own"}, False, ValueError, r"mix\['b'\] is for a part .* they are inputs\['a'\] \(torch"),
        (
            torch.zeros(B),
            None,
            True,
            ValueError,
            r"mix_layer= is given, and no part of the inputs goes to it; they are",
        ),
        (IDS, "layer", False, ValueError, r"mix is 'layer', and no layer mixes its output; pass mix_layer="),
        ({"a": IDS}, {"a": "add"}, False, TypeError, r"mix\['a'\] must be one of mean, .* or a function .* got 'add'"),
    ],
)
def test_what_cannot_be_mixed_is_refused_with_a_remedy(
    inputs: Any, rules: Any, has_layer: bool, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        mixed(inputs, rules, has_layer=has_layer)


@pytest.mark.parametrize("answer", [None, torch.zeros(B + 1)])
def test_a_function_must_return_a_row_a_sample(answer: Any) -> None:
    def wrong(own: Tensor, others: Tensor, weights: Tensor) -> Any:
        del own, others, weights
        return answer

    with pytest.raises(ValueError, match=r"the function of mix must return a tensor of 3 rows, got"):
        mixed(torch.zeros(B), wrong)
