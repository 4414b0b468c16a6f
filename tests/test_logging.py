"""What the library says: warnings once, everything else through one logger, nothing by itself."""

import ast
import logging
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import NUM_FEATURES, Points, Samples, mlp

import mixnn_loader
from mixnn_loader import MixNNDataLoader
from mixnn_loader._utils.warn_once import WarnOnce
from mixnn_loader.method.clean_probability import log_clean_posterior

PACKAGE = Path(mixnn_loader.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def names_used(file: Path) -> set[str]:
    """Every name and attribute in a source file; not what its docstrings say."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_file_writes_to_the_terminal_by_itself(file: Path) -> None:
    is_command = file.parent.name == "command"  # which is there to tell
    told = set() if is_command else {"print", "pprint", "stdout"}
    assert not names_used(file) & {"basicConfig", "addHandler", "setLevel", *told}
    if file.name != "log.py":
        assert "getLogger" not in names_used(file)


def test_the_logger_is_left_for_the_program_to_configure() -> None:
    logger = logging.getLogger("mixnn_loader")
    assert (logger.handlers, logger.level, logger.propagate, logger.disabled) == ([], logging.NOTSET, True, False)


def test_without_a_configuration_only_large_allocations_are_told() -> None:
    code = (
        "import torch; from mixnn_loader._utils.memory import announce; "
        "from mixnn_loader._utils.progress import progress_bar; "
        "list(progress_bar()([1, 2], desc='scan')); "
        "announce('small rows', (2, 2), torch.float32, torch.device('cpu'), 'this='); "
        "announce('large rows', (2**20, 2**10), torch.float32, torch.device('cpu'), 'that=')"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    assert line.startswith("the large rows of 1,048,576 samples take 4,096.0 MiB on cpu")


# ---------------------------------------------------------------------------------------- once a run


def test_a_message_is_a_warning_once_and_then_logged(caplog: pytest.LogCaptureFixture) -> None:
    warn = WarnOnce()
    with caplog.at_level(logging.INFO), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for count in (3, 5, 7):
            warn("%d samples are odd", count)
        warn("50% are even")
        WarnOnce()("%d samples are odd", 9)
    assert [str(warning.message) for warning in caught] == ["3 samples are odd", "50% are even", "9 samples are odd"]
    assert {warning.category for warning in caught} == {RuntimeWarning}
    assert [record.getMessage() for record in caplog.records] == ["5 samples are odd", "7 samples are odd"]


def test_a_warning_that_is_an_error_is_one_every_time() -> None:
    warn = WarnOnce()
    for _ in range(2):
        with pytest.raises(RuntimeWarning, match="look here"):
            warn("look here")


@pytest.mark.parametrize("losses", [torch.ones(20), torch.cat([torch.zeros(20), torch.rand(10)])])
def test_the_mixture_warns_in_every_call_or_once(losses: torch.Tensor) -> None:
    for warn, expected in ((None, 2), (WarnOnce(), 1)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                log_clean_posterior(losses, warn)
        assert len(caught) == expected


class Decaying(Points):
    """More of its samples are NaN every time that all have been read; from the start, if ``identical``, all are one."""

    def __init__(self, *, identical: bool) -> None:
        super().__init__()
        if identical:
            self.inputs[:], self.labels[:] = self.inputs[0], self.labels[0]
        self.reads = 0

    def __getitem__(self, index: int) -> Any:
        inputs, label = super().__getitem__(index)
        self.reads += 1
        return inputs * (torch.nan if index < self.reads // len(self) else 1), label


@pytest.mark.parametrize("arguments", [{}, {"scan_every": 2}, {"scan": "running"}, {"neighbors": "batch"}], ids=str)
@pytest.mark.parametrize("identical", [False, True])
def test_a_cause_that_lasts_is_warned_of_once_a_run(
    caplog: pytest.LogCaptureFixture, arguments: dict[str, Any], identical: bool
) -> None:
    loader = MixNNDataLoader(Decaying(identical=identical), mlp(), batch_size=8, warmup_epochs=1, **arguments)
    with caplog.at_level(logging.INFO, logger="mixnn_loader"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(8):
            list(loader)

    causes = ["NaN or infinite"] + ["two components could not be fitted"] * identical
    for cause in causes:
        given = [str(warning.message) for warning in caught if cause in str(warning.message)]
        later = [record.getMessage() for record in caplog.records if cause in record.getMessage()]
        assert len(given) == 1
        assert len(later) >= 2
    assert sum(issubclass(warning.category, RuntimeWarning) for warning in caught) == len(causes)


def test_samples_of_another_run_are_warned_of_again() -> None:
    samples = Samples([(torch.full((NUM_FEATURES,), torch.nan if i == 0 else i / 9), i % 3) for i in range(9)])
    for _ in range(2):
        loader = MixNNDataLoader(samples, mlp(), batch_size=3, warmup_epochs=0)
        with pytest.warns(RuntimeWarning, match="1 of 9 samples"):
            list(loader)
