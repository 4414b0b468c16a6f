"""Neither `torch.set_default_dtype` nor `torch.set_default_device` changes anything: new tensors are told both."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import mixnn_loader
from mixnn_loader.method.clean_probability import log_clean_posterior

PACKAGE = Path(mixnn_loader.__file__).parent

FLOAT_FACTORIES = {
    "bartlett_window",
    "blackman_window",
    "empty",
    "empty_strided",
    "eye",
    "hamming_window",
    "hann_window",
    "kaiser_window",
    "linspace",
    "logspace",
    "ones",
    "rand",
    "randn",
    "zeros",
}
"""Their tensors are of the default type unless they are told another."""

NUMBER_FACTORIES = {"arange", "as_tensor", "asarray", "full", "range", "scalar_tensor", "tensor"}
"""Theirs are of the default type where what they are given is a float, which for a name cannot be known here."""

FACTORIES = FLOAT_FACTORIES | NUMBER_FACTORIES | {"randint", "randperm", "tril_indices", "triu_indices"}

KEEP_A_TENSOR = {"as_tensor", "asarray"}
"""Given a tensor or an array, they keep its type; not an array's place, which is the host."""

ASKING = {"default = torch.empty(())"}
"""Asks what the defaults are; the only call that is meant to depend on them."""


def is_number(node: ast.expr) -> bool:
    """Whether an expression is made of numbers: a literal, also one with a sign, or a list of such, or arithmetic."""
    match node:
        case ast.Constant(value=value):
            return isinstance(value, int | float)
        case ast.UnaryOp(operand=operand):
            return is_number(operand)
        case ast.BinOp(left=left, right=right):
            return is_number(left) or is_number(right)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return all(map(is_number, elements))
    return False


def is_whole(node: ast.expr) -> bool:
    """Whether an expression is surely no float: integers or booleans, their arithmetic, lengths and shapes."""
    match node:
        case ast.Constant(value=value):
            return isinstance(value, int)
        case ast.UnaryOp(operand=operand):
            return is_whole(operand)
        case ast.BinOp(left=left, op=operator, right=right):
            return not isinstance(operator, ast.Div) and is_whole(left) and is_whole(right)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return all(map(is_whole, elements))
        case ast.Call(func=ast.Name(id="len" | "int")):
            return True
        case ast.Subscript(value=ast.Attribute(attr="shape")):
            return True
    return False


def has_fraction(node: ast.expr) -> bool:
    """Whether a float or a division is part of an expression: names that are given to `arange` stand for integers."""
    parts = list(ast.walk(node))
    return any(isinstance(x, ast.Div) or (isinstance(x, ast.Constant) and isinstance(x.value, float)) for x in parts)


def missing(call: ast.Call) -> set[str]:
    """Of ``device`` and ``dtype``, those that a call of a factory leaves to the default."""
    if not (isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "torch"):
        return set()
    name = call.func.attr
    if name not in FACTORIES:
        return set()
    if name in KEEP_A_TENSOR and not is_number(call.args[0]):
        needed = {"device"}
    elif name in FLOAT_FACTORIES:
        needed = {"device", "dtype"}
    elif name in NUMBER_FACTORIES:
        given = call.args[1:] if name == "full" else call.args  # `full` is first given a shape
        whole = not any(map(has_fraction, given)) if name == "arange" else all(map(is_whole, given))
        needed = {"device"} if whole else {"device", "dtype"}
    else:
        needed = {"device"}
    return needed - {keyword.arg for keyword in call.keywords}


def forgetful(source: str) -> Iterator[tuple[int, str, set[str]]]:
    """Give the line, its text and what is missing, for every call that leaves something to the defaults."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and (names := missing(node)):
            yield node.lineno, lines[node.lineno - 1].strip(), names


def test_every_factory_is_told_its_type_and_device() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: no {' and no '.join(sorted(names))}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text, names in forgetful(path.read_text(encoding="utf-8"))
        if not any(text.startswith(asking) for asking in ASKING)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("torch.zeros(3)", {"device", "dtype"}),
        ("torch.zeros(3, device=d)", {"dtype"}),
        ("torch.zeros(3, dtype=torch.bool)", {"device"}),
        ("torch.zeros(3, dtype=t, device=d)", set()),
        ("torch.arange(n)", {"device"}),
        ("torch.arange(start, start + n, device=d)", set()),
        ("torch.arange(0.5, n, device=d)", {"dtype"}),
        ("torch.arange(n / 2, device=d)", {"dtype"}),
        ("torch.full((3,), fill, device=d)", {"dtype"}),
        ("torch.full((3,), -1, device=d)", set()),
        ("torch.tensor([0.5, 1.0], device=d)", {"dtype"}),
        ("torch.tensor(values, device=d)", {"dtype"}),
        ("torch.tensor([1, 2], device=d)", set()),
        ("torch.tensor(True)", {"device"}),
        ("torch.as_tensor(array)", {"device"}),
        ("torch.as_tensor([0.5])", {"device", "dtype"}),
        ("torch.randperm(n)", {"device"}),
        ("torch.zeros_like(x)", set()),
        ("x.new_zeros(3)", set()),
        ("np.zeros(3)", set()),
        ("torch.from_numpy(x)", set()),
    ],
)
def test_the_walk_sees_what_is_missing(call: str, expected: set[str]) -> None:
    assert [names for _, _, names in forgetful(call)] == ([expected] if expected else [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16, torch.float16, "meta"], ids=str)
def test_clean_posteriors_are_the_same_to_the_last_bit(
    generator: torch.Generator, dtype: torch.dtype, default: torch.dtype | str
) -> None:
    # Enough of them to be binned, and components close enough that their shares matter.
    losses = torch.randn(6000, generator=generator, dtype=torch.float64).abs().to(dtype)
    losses[2000:] = losses[2000:] * 0.5 + 2
    expected, mixture = log_clean_posterior(losses)
    assert mixture is not None

    if isinstance(default, str):
        with torch.device(default):
            posterior, same_mixture = log_clean_posterior(losses)
    else:
        usual = torch.get_default_dtype()
        torch.set_default_dtype(default)
        try:
            posterior, same_mixture = log_clean_posterior(losses)
        finally:
            torch.set_default_dtype(usual)

    assert torch.equal(posterior, expected)
    assert posterior.device.type == "cpu"
    assert same_mixture == mixture
