"""The example on text: its table, that wrong labels are corrected, and that the embedding is where texts are mixed."""

import pytest
from comparisons import changed_calls, check_table, gain, run_command, table_of

NAME = "text_transformer"
Capture = pytest.CaptureFixture[str]


def test_prints_its_table(capsys: Capture) -> None:
    run_command(NAME, "--epochs", 2, "--samples", 128, "--seeds", 0, 1)
    output = capsys.readouterr().out
    check_table(table_of(output))
    assert output.startswith("128 training samples, 2 epochs, seeds 0 1\n")
    assert output.endswith("Mean ± standard deviation over the seeds.\n")


def test_mixes_in_the_embedding_and_corrects_labels(capsys: Capture) -> None:
    changed, *_ = changed_calls(NAME, ["embedding"], "--epochs", 8, "--samples", 640, "--lr", 2e-3).values()
    epoch = 10  # batches of 64
    assert not any(changed[: 9 * epoch]), "cross-entropy, and the warm-up of MixNN"
    assert any(changed[9 * epoch :])
    assert gain(capsys.readouterr().out) > 5


@pytest.mark.parametrize("recipe", ["fast", "paper"])
def test_takes_other_recipes(recipe: str, capsys: Capture) -> None:
    if recipe == "paper":
        pytest.importorskip("nmslib", reason="the paper's search is of nmslib")
    run_command(NAME, "--epochs", 2, "--samples", 128, "--recipe", recipe)
    check_table(table_of(capsys.readouterr().out))


def test_help_names_every_flag(capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="0"):
        run_command(NAME, "--help")
    shown = capsys.readouterr().out
    assert "40 % of the labels are wrong" in shown
    for flag in ("--epochs", "--samples", "--lr", "--recipe", "--seeds", "--device"):
        assert flag in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--epochs", 1), "--epochs must be at least 2, one of warm-up and one after it, got 1"),
        (("--samples", 0), "--samples must be at least 1, got 0"),
    ],
)
def test_refuses_flags_out_of_range(flags: tuple[str, int], message: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_command(NAME, *flags)
    assert message in capsys.readouterr().err
