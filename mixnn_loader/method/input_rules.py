"""Which part of the inputs is mixed how: numbers are averaged; of tokens and categories a layer's output is."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from mixnn_loader._utils.nested import Path, map_tensors, map_with_paths, tensors_with_paths
from mixnn_loader.method.mixing import mix

Rule = Literal["mean", "layer", "or", "max", "own"]
"""``"mean"``: the weighted mean (Eq. 4). ``"layer"``: as it is, as a layer's output is mixed in its place. ``"or"`` and
``"max"``: of a mask, what is set in any sample that takes part; of lengths, the longest of these. ``"own"``: the
sample's."""

RuleFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(own (B, ...), neighbors (B, K, ...), weights (B, K+1)) -> mixed (B, ...)``."""

Rules: TypeAlias = Any
"""A `Rule` or a `RuleFunction` for all inputs, or a dict, tuple or list of rules, nested as the inputs are."""

RULES = get_args(Rule)
MASK_NAMES, LENGTH_NAMES = ("mask", "padding"), ("length", "lens", "seq_len")
"""A part of the inputs whose name has one of these in it is a mask, or holds lengths."""


class InputRules:
    """What happens to each part of the inputs.

    Args:
        rules: the user's; None: by default, numbers are averaged. Where a layer mixes its output, boolean tensors and
            integers whose name says "mask" are united, of integers whose name says "length" the longest is taken,
            and other integers go to the layer.
        has_layer: whether a layer mixes its output.

    Attributes:
        has_layer: the same.

    Raises:
        TypeError: a rule is no rule.
        ValueError: a rule is for a layer, and there is none.
    """

    def __init__(self, rules: Rules = None, *, has_layer: bool = False) -> None:
        self._rules, self.has_layer = rules, has_layer
        for path, rule in _leaves(rules):
            if rule is not None and rule not in RULES and not callable(rule):
                raise TypeError(
                    f"mix{_at(path)} must be one of {', '.join(RULES)} or a function (own, neighbors, weights) -> "
                    f"mixed, got {rule!r}"
                )
            if rule == "layer" and not has_layer:
                raise ValueError(f"mix{_at(path)} is 'layer', and no layer mixes its output; pass mix_layer=")

    def check(self, inputs: Any) -> None:
        """Check that every part of the inputs can be mixed by its rule.

        Raises:
            TypeError: a part has no rule, or one that is not for its type.
            ValueError: a rule is for a part that is not there, or nothing goes through the layer that is to mix.
        """
        leaves = tensors_with_paths(inputs)
        for path, _ in _leaves(self._rules):
            if path and not any(leaf[: len(path)] == path for leaf in leaves):
                raise ValueError(f"mix{_at(path)} is for a part that the inputs do not have; {_listed(leaves)}")
        rules = [self._rule_of(path, tensor) for path, tensor in leaves.items()]
        for rule, (path, tensor) in zip(rules, leaves.items(), strict=True):
            if rule == "mean" and not tensor.is_floating_point():
                raise TypeError(
                    f"inputs{_at(path)} must be floating-point to be averaged, got {tensor.dtype}; pass another rule, "
                    "mix= with 'layer', 'or', 'max', 'own' or a function"
                )
        if self.has_layer and "layer" not in rules:
            raise ValueError(
                f"mix_layer= is given, and no part of the inputs goes to it; {_listed(leaves)}. Say which, such as "
                "mix='layer'"
            )

    def mix(self, inputs: Any, num_own: int, neighbors: Callable[[Tensor], Tensor], weights: Tensor) -> Any:
        """Mix the inputs of a batch of B samples.

        Args:
            inputs: a nest of (R, ...), the B samples first.
            num_own: B.
            neighbors: rows (R, ...) -> those of the neighbors (B, K, ...).
            weights: (B, K+1) float.

        Returns:
            The nest, of (B, ...); what goes to the layer is as it was if it has rows for neighbors, else the first B.
        """
        if weights.shape[1] == 1:  # nobody to be mixed with: any inputs will do
            return map_tensors(lambda rows: rows[:num_own], inputs)

        def mixed(path: Path, rows: Tensor) -> Tensor:
            rule, own = self._rule_of(path, rows), rows[:num_own]
            if rule == "layer":
                return rows
            if rule == "own":
                return own
            if rule == "mean":
                return mix(own, neighbors(rows), weights)
            if isinstance(rule, str):
                return _largest(own, neighbors(rows), weights)
            return _answer(rule(own, neighbors(rows), weights), num_own, path)

        return map_with_paths(mixed, inputs)

    def of_neighbors(self, inputs: Any, neighbors: Callable[[Tensor], Tensor]) -> Any:
        """Put the first neighbor's in place of each sample's, but for what goes to the layer, which stays as it is.

        Args:
            inputs: a nest of (R, ...).
            neighbors: rows (R, ...) -> those of the neighbors (B, K, ...).
        """

        def replaced(path: Path, rows: Tensor) -> Tensor:
            return rows if self._rule_of(path, rows) == "layer" else neighbors(rows)[:, 0]

        return map_with_paths(replaced, inputs)

    def to_layer(self, inputs: Any) -> list[Tensor]:
        """Return the parts of the inputs that go to the layer."""
        return [tensor for path, tensor in tensors_with_paths(inputs).items() if self._rule_of(path, tensor) == "layer"]

    def _rule_of(self, path: Path, tensor: Tensor) -> Rule | RuleFunction:
        rule: Any = self._rules
        for key in path:
            if isinstance(rule, Mapping):
                rule = rule.get(key)
            elif isinstance(rule, (tuple, list)):
                rule = rule[key] if isinstance(key, int) and key < len(rule) else None
        return self._default(path, tensor) if rule is None else rule

    def _default(self, path: Path, tensor: Tensor) -> Rule:
        if tensor.is_floating_point():
            return "mean"
        if not path and tensor.dim() == 1 and self._rules is None:
            raise TypeError(
                f"inputs must be floating-point tensors to be mixed, got one {tensor.dtype} a sample. If the dataset "
                "gives (index, inputs, label), pass unpack=(1, 2), and of (label, inputs) unpack=(1, 0); of one "
                "category a sample pass mix_layer=, the layer that embeds it, and mix='layer'"
            )
        if not self.has_layer:
            raise TypeError(
                f"inputs must be floating-point tensors to be mixed, got {tensor.dtype}{' in ' * bool(path)}"
                f"{_at(path)}; convert images in the dataset's transform (ToTensor; set_transform of Hugging Face "
                "datasets); of token ids and categories pass mix_layer=, the embedding whose output is mixed in their "
                "place, or mix=, a rule; or pass num_neighbors=0"
            )
        if tensor.dtype == torch.bool or _is_named(path, MASK_NAMES):
            return "or"
        if _is_named(path, LENGTH_NAMES):
            return "max"
        if tensor.dim() == 1:
            raise TypeError(
                f"inputs{_at(path)} are one {tensor.dtype} a sample, which may be lengths or a category: say by mix= "
                "which, 'max' or 'layer'"
            )
        return "layer"


def _is_named(path: Path, names: tuple[str, ...]) -> bool:
    name = next((key.lower() for key in reversed(path) if isinstance(key, str)), "")
    return any(part in name for part in names)


def _largest(own: Tensor, neighbors: Tensor, weights: Tensor) -> Tensor:
    """Return the largest value of the sample and of the neighbors that have a weight, (B, ...)."""
    takes_part = (weights[:, 1:] > 0).reshape(*neighbors.shape[:2], *(1,) * (neighbors.dim() - 2))
    largest = own
    for k in range(neighbors.shape[1]):
        largest = torch.where(takes_part[:, k], torch.maximum(largest, neighbors[:, k]), largest)
    return largest


def _answer(mixed: Any, num_own: int, path: Path) -> Tensor:
    if not isinstance(mixed, Tensor) or mixed.shape[:1] != (num_own,):
        got = tuple(mixed.shape) if isinstance(mixed, Tensor) else type(mixed).__name__
        raise ValueError(f"the function of mix{_at(path)} must return a tensor of {num_own} rows, got {got}")
    return mixed


def _leaves(rules: Rules, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(rules, Mapping):
        for key, value in rules.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(rules, (tuple, list)):
        for place, value in enumerate(rules):
            yield from _leaves(value, (*path, place))
    else:
        yield path, rules


def _at(path: Path) -> str:
    return "".join(f"[{key!r}]" for key in path)


def _listed(leaves: Mapping[Path, Tensor]) -> str:
    return "they are " + ", ".join(f"inputs{_at(path)} ({tensor.dtype})" for path, tensor in leaves.items())
