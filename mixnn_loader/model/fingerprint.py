"""A number for each trained parameter, or any tensor, by which is seen whether its values have changed."""

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

CHUNK = 2**18
"""Values that are hashed at a time: hashing takes 4 MiB, however large the parameter is."""

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By the bytes of a value, the type as which its bits are read."""

_MULTIPLIERS = (-7046029254386353131, -4658895280553007687, -7723592293110705685)
"""The odd 64-bit numbers of the splitmix64 generator, as signed integers."""


def fingerprint(model: nn.Module) -> Tensor:
    """Hash the values of a model's parameters that require gradient.

    The bits of all values are added up as integers, each times an odd number that depends on its place, modulo 2**64.
    Such a sum does not depend on the order of summation, so it is the same each time. A change of one value, however
    small, always changes it; changes of several, such as two that are swapped, cancel with a chance of about 2**-64.
    A NaN is the same as one of the same bits.

    Returns:
        (n,) int64 on the CPU for n parameters, in the order of ``model.parameters()``; empty where none is trained.
        What has no values here, on the meta device or in a lazy module, counts as 0, and of a sharded parameter this
        process's part counts. Each of the parameters' devices is waited for once.
    """
    hashes: dict[torch.device, list[Tensor]] = {}
    places: dict[torch.device, list[int]] = {}
    factors: dict[torch.device, Tensor] = {}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for place, parameter in enumerate(parameters):
            bits = _bits(parameter)
            if bits is None:
                continue
            device, length = bits.device, min(len(bits), CHUNK)
            if device not in factors or len(factors[device]) < length:
                factors[device] = _factors(length, device)
            hashes.setdefault(device, []).append(_hash(bits, factors[device]))
            places.setdefault(device, []).append(place)
        result = torch.zeros(len(parameters), dtype=torch.int64, device="cpu")
        for device, found in hashes.items():
            result[places[device]] = torch.stack(found).cpu()
    return result


def fingerprint_of(values: Tensor) -> Tensor:
    """Hash the values of a tensor, whatever its shape, as `fingerprint` does a parameter's: () int64 on its device."""
    bits = _bits(values)
    if bits is None:
        return torch.zeros((), dtype=torch.int64, device=values.device)
    return _hash(bits, _factors(min(len(bits), CHUNK), bits.device))


def same(one: Tensor, other: Tensor) -> bool:
    """Say whether two fingerprints are those of the same values."""
    return torch.equal(one, other)


def _bits(parameter: Tensor) -> Tensor | None:
    """Read a parameter's values as integers, (m,); None where there are none."""
    if isinstance(parameter, UninitializedParameter):
        return None
    values = parameter.detach()
    to_local = getattr(values, "to_local", None)  # a DTensor's
    if to_local is not None:
        values = to_local()
    if values.layout != torch.strided:
        values = values.to_dense()
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    if values.is_meta or values.numel() == 0:
        return None
    return values.reshape(-1).view(_BITS[values.element_size()])


def _hash(bits: Tensor, factors: Tensor) -> Tensor:
    """Add up integers (m,), each times the factor of its place, in int64, which wraps around: ()."""
    total = torch.zeros((), dtype=torch.int64, device=bits.device)
    for start in range(0, len(bits), CHUNK):
        part = bits[start : start + CHUNK]
        total = total * _MULTIPLIERS[0] + (part * factors[: len(part)]).sum()
    return total


def _factors(length: int, device: torch.device) -> Tensor:
    """Make odd pseudo-random factors, (length,) int64, the same on every device: splitmix64 of the place.

    With plain places for factors, changes of 1, -2 and 1 side by side would cancel.
    """
    step, *mixers = _MULTIPLIERS
    factors = torch.arange(1, length + 1, dtype=torch.int64, device=device) * step
    for mixer in mixers:
        factors = (factors ^ (factors >> 30)) * mixer
    return (factors ^ (factors >> 31)) | 1
