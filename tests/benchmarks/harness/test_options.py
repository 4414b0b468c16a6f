"""The options of every method can be checked before a training."""

import pytest

from benchmarks.harness.options import check_options
from benchmarks.harness.settings import SettingError
from benchmarks.methods import all_methods


@pytest.mark.parametrize("name", all_methods())
def test_the_options_of_every_method_can_be_checked(name: str) -> None:
    check_options(name, all_methods()[name], {})


def test_an_integer_is_a_number_and_none_is_for_those_that_say_so() -> None:
    elr = all_methods()["elr"]
    for value in (1, 0.5, None):
        check_options("elr", elr, {"momentum": value})
    with pytest.raises(SettingError, match="elr: weight must be None or float, got '3'"):
        check_options("elr", elr, {"weight": "3"})


def test_what_is_passed_on_is_checked_by_who_gets_it() -> None:
    check_options("mixnn", all_methods()["mixnn"], {"momentum": "any"})
