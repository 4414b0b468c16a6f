"""What the loader costs is measured of networks that fit the images."""

import pytest
import torch

from benchmarks.overhead import BY_DEFAULT, CASES, NUM_CLASSES, build_network


@pytest.mark.parametrize("name", CASES)
def test_a_network_takes_the_images_of_its_case(name: str) -> None:
    case = CASES[name]
    with torch.no_grad():
        assert build_network(case)(torch.zeros(2, *case.image_shape)).shape == (2, NUM_CLASSES)


def test_the_cases_of_a_run_without_arguments_exist() -> None:
    assert set(BY_DEFAULT) < set(CASES)
