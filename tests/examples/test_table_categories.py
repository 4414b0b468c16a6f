"""The example on a table: what it prints, that wrong labels are corrected, and that every embedding mixes."""

import pytest
from comparisons import changed_calls, check_table, gain, run_command, table_of

NAME = "table_categories"
Capture = pytest.CaptureFixture[str]


def test_prints_its_table(capsys: Capture) -> None:
    run_command(NAME, "--epochs", 2, "--samples", 200, "--seeds", 3)
    output = capsys.readouterr().out
    check_table(table_of(output))
    assert output.startswith("200 training samples, 2 epochs, seeds 3\n")
    assert "standard deviation" not in output


def test_mixes_in_every_embedding_and_corrects_labels(capsys: Capture) -> None:
    layers = [f"embeddings.{column}" for column in ("region", "product", "device", "weekday")]
    calls = changed_calls(NAME, layers, "--epochs", 17, "--samples", 832, "--lr", 2e-3)
    epoch = 13  # batches of 64
    for layer, changed in calls.items():
        assert not any(changed[: 18 * epoch]), "cross-entropy, and the warm-up of MixNN"
        assert any(changed[18 * epoch :]), layer
    assert gain(capsys.readouterr().out) > 5
