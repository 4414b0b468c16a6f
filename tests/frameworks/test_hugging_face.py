"""Under Hugging Face's Trainer: training, evaluation, checkpoints."""

import os
import warnings
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from integration.processes import results_of
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

transformers = pytest.importorskip("transformers")

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes  # noqa: E402
from mixnn_loader.integrations.hugging_face import MixNNTrainer  # noqa: E402

N, LENGTH, NUM_CLASSES, B, EPOCHS = 48, 6, 3, 8, 4


class Tokens(Dataset[Any]):
    """Sentences of a class, padded; what a tokenizer gives."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(N) % NUM_CLASSES
        self.ids = 1 + 5 * self.labels[:, None] + torch.randint(5, (N, LENGTH), generator=generator)
        self.mask = (torch.arange(LENGTH) < torch.randint(3, LENGTH + 1, (N, 1), generator=generator)).long()

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "input_ids": self.ids[index] * self.mask[index],
            "attention_mask": self.mask[index],
            "labels": int(self.labels[index]),
        }


class Embedded(Tokens):
    """The same with vectors in place of ids."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = super().__getitem__(index)
        ids = sample.pop("input_ids")
        return {**sample, "inputs_embeds": nn.functional.one_hot(ids % 8, 8).float()}


class NoisyTrainer(MixNNTrainer, transformers.Trainer):  # type: ignore[misc, name-defined]
    """What a user writes."""


def bert() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=20,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            num_labels=NUM_CLASSES,
            max_position_embeddings=LENGTH,
        )
        return transformers.BertForSequenceClassification(config)


def trainer_of(
    folder: Path,
    mixnn: dict[str, Any] | None = None,
    kind: type[NoisyTrainer] = NoisyTrainer,
    train_dataset: Dataset[Any] | None = None,
    **arguments: Any,
) -> Any:
    settings: dict[str, Any] = {
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": B,
        "learning_rate": 1e-3,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return kind(
        model=bert(),
        args=transformers.TrainingArguments(str(folder), **(settings | arguments)),
        train_dataset=Tokens() if train_dataset is None else train_dataset,
        eval_dataset=Tokens(),
        compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())},
        mixnn={**recipes.robust(epochs=EPOCHS), "mix_layer": "bert.embeddings"} if mixnn is None else mixnn,
    )


def known(trainer: Any) -> list[Tensor]:
    loader = trainer.mixnn_loader
    averages = [loader.soft_targets, loader.losses, loader.clean_probability]
    return [*averages, *(parameter.detach() for parameter in trainer.model.parameters())]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("neighbors", ["robust", "dataset"])
def test_trains_evaluates_and_reports(neighbors: str, tmp_path: Path) -> None:
    mixnn = None
    if neighbors == "dataset":
        mixnn = {"mix_layer": "bert.embeddings", "epochs": EPOCHS}
    trainer = trainer_of(tmp_path, mixnn, eval_strategy="epoch")
    plain = transformers.Trainer(
        model=bert(), args=trainer.args, eval_dataset=Tokens(), compute_metrics=trainer.compute_metrics
    )
    assert trainer.evaluate()["eval_loss"] == pytest.approx(plain.evaluate()["eval_loss"])
    trainer.train()
    loader = trainer.mixnn_loader
    assert isinstance(loader, MixNNDataLoader)
    assert [epoch["phase"] for epoch in loader.history] == ["warm-up", *["correction"] * (EPOCHS - 1)]
    assert trainer.state.global_step == EPOCHS * N // B
    plain.model.load_state_dict(trainer.model.state_dict())
    assert trainer.evaluate()["eval_loss"] == pytest.approx(plain.evaluate()["eval_loss"])
    report = loader.label_report(neighbors=3)
    assert sorted(report.indices.tolist()) == list(range(N))


@pytest.mark.filterwarnings("ignore")
def test_is_the_loop_that_one_would_write(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, optim="sgd", lr_scheduler_type="constant", max_grad_norm=0.0, learning_rate=0.1)
    trainer.train()
    model, collate = bert(), transformers.default_data_collator
    loader = MixNNDataLoader(
        DataLoader(Tokens(), B, shuffle=True, collate_fn=collate),
        model,
        **recipes.robust(epochs=EPOCHS),
        mix_layer="bert.embeddings",
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    transformers.set_seed(trainer.args.seed)
    model.train()
    for _ in range(EPOCHS):
        for batch in loader:
            MixNNLoss()(model(**batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    for one, other in zip(known(trainer), known(SimpleNamespace(model=model, mixnn_loader=loader)), strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stop", [6, 9, 18], ids=["end of an epoch", "within an epoch", "end of another"])
def test_resuming_is_exact(stop: int, tmp_path: Path) -> None:
    whole = trainer_of(tmp_path / "whole", save_strategy="steps", save_steps=stop)
    whole.train()
    resumed = trainer_of(tmp_path / "resumed", save_strategy="no")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{stop}"))
    assert resumed.state.global_step == whole.state.global_step == EPOCHS * N // B
    for one, other in zip(known(resumed), known(whole), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.filterwarnings("ignore")
def test_gradient_accumulation_takes_the_mean(tmp_path: Path) -> None:
    losses = []
    for accumulate in (1, 2):
        trainer = trainer_of(
            tmp_path / str(accumulate),
            {"num_neighbors": 0, "warmup_epochs": EPOCHS},
            gradient_accumulation_steps=accumulate,
            per_device_train_batch_size=B // accumulate,
            optim="sgd",
            max_grad_norm=0.0,
            num_train_epochs=1,
            logging_steps=1,
        )
        for module in trainer.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        trainer.train()
        losses.append([parameter.detach() for parameter in trainer.model.parameters()])
    for one, other in zip(*losses, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("steps", "stop"), [(4, 3), (2, 4), (4, 2)])
def test_a_resumed_epoch_that_loses_a_step_is_told_of(steps: int, stop: int, tmp_path: Path) -> None:
    """Of six batches, four make a step, and the two that are left make another: at their end, or not at all."""
    arguments: dict[str, Any] = {"gradient_accumulation_steps": steps, "num_train_epochs": 2}
    whole = trainer_of(tmp_path, save_strategy="steps", save_steps=stop, **arguments)
    whole.train()
    resumed = trainer_of(tmp_path, **arguments)
    within = (steps, stop) == (4, 3)
    with pytest.warns(UserWarning, match=r"without an optimizer step: .*=4\.") if within else nullcontext():
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stop}"))
    assert (resumed.state.global_step == whole.state.global_step) is not within


@pytest.mark.filterwarnings("ignore")
def test_losses_that_are_given_to_the_trainer(tmp_path: Path) -> None:
    assert trainer_of(tmp_path, label_smoothing_factor=0.1).criterion.label_smoothing == 0.1
    with pytest.raises(ValueError, match=r"compute_loss_func= gets no mixed targets: pass criterion=MixNNLoss\(base"):
        NoisyTrainer(
            model=bert(),
            args=transformers.TrainingArguments(str(tmp_path), report_to=[], use_cpu=True),
            compute_loss_func=lambda outputs, *_, **__: outputs.logits.sum(),
            mixnn=recipes.robust(epochs=EPOCHS),
        )


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_without_the_loader_is_told_of(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, save_strategy="epoch")
    trainer.train()
    (tmp_path / "checkpoint-6" / "mixnn_loader.pt").unlink()
    with pytest.warns(UserWarning, match=r"there is no .*mixnn_loader.pt: what the loader knew .* is lost"):
        trainer_of(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))


@pytest.mark.filterwarnings("ignore")
def test_a_trial_of_a_search_has_the_loader_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(tmp_path, save_strategy="epoch", num_train_epochs=2)
    for trial in ("run-0", "run-1"):
        folder = str(tmp_path / trial)
        # As where Optuna asks.
        monkeypatch.setattr(transformers.Trainer, "_get_output_dir", lambda *_, folder=folder, **__: folder)
        trainer.train()
        assert (tmp_path / trial / "checkpoint-12" / "mixnn_loader.pt").exists()
    monkeypatch.undo()
    outer = trainer_of(tmp_path, save_strategy="epoch", num_train_epochs=2)  # whose folder has those of others in it
    before = (tmp_path / "run-1" / "checkpoint-12" / "mixnn_loader.pt").stat().st_mtime_ns
    outer.train()
    assert (tmp_path / "checkpoint-12" / "mixnn_loader.pt").exists()
    assert (tmp_path / "run-1" / "checkpoint-12" / "mixnn_loader.pt").stat().st_mtime_ns == before
    resumed = trainer_of(tmp_path / "resumed", num_train_epochs=2)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run-1" / "checkpoint-6"))
    for one, other in zip(known(resumed), known(trainer), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def in_two(rank: int, size: int, folder: Path) -> dict[str, Any]:
    """Train in one of two processes, as torchrun starts them; what it has drawn, and what is known at the end."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    drawn = []

    class Noting(NoisyTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            drawn.append(inputs.targets.indices.tolist())
            return super().compute_loss(model, inputs, *args, **kwargs)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Where several processes share a CPU, Accelerate copies inputs, and a layer does not know them any more.
        mixnn = {**recipes.robust(epochs=EPOCHS), "mix": {"attention_mask": "or"}}
        trainer = trainer_of(folder, mixnn, Noting, ddp_backend="gloo", save_strategy="epoch", train_dataset=Embedded())
        trainer.train()
        end = known(trainer)
        resumed = trainer_of(folder / "resumed", mixnn, ddp_backend="gloo", train_dataset=Embedded())
        resumed.train(resume_from_checkpoint=str(folder / "checkpoint-6"))
    return {"drawn": drawn, "known": end, "resumed": known(resumed), "epochs": len(trainer.mixnn_loader.history)}


def test_in_two_processes_each_draws_its_half_and_all_know_the_same(tmp_path: Path) -> None:
    of_rank = results_of(partial(in_two, folder=tmp_path / "run"), 2, tmp_path)
    batches = N // B // 2
    for epoch in range(EPOCHS):
        of_epoch = slice(epoch * batches, (epoch + 1) * batches)
        halves = [list(chain.from_iterable(one["drawn"][of_epoch])) for one in of_rank]
        assert [len(half) for half in halves] == [N // 2, N // 2]
        assert sorted(halves[0] + halves[1]) == list(range(N))
    assert of_rank[0]["drawn"][:batches] != of_rank[0]["drawn"][batches : 2 * batches], "shuffled anew"
    for one, other in zip(of_rank[0]["known"], of_rank[1]["known"], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    for one in of_rank:
        assert one["epochs"] == EPOCHS
        for value, expected in zip(one["resumed"], one["known"], strict=True):
            torch.testing.assert_close(value, expected, rtol=0, atol=0, equal_nan=True)


def test_token_ids_need_a_layer(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"got torch.int64 in \['input_ids'\]; .* pass mix_layer="):
        trainer_of(tmp_path, {"epochs": EPOCHS}).train()
