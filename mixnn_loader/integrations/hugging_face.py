"""Hugging Face's Trainer with MixNN: a mixin.

    from transformers import Trainer

    from mixnn_loader import recipes
    from mixnn_loader.integrations.hugging_face import MixNNTrainer


    class NoisyTrainer(MixNNTrainer, Trainer):
        pass


    trainer = NoisyTrainer(
        model=model,
        args=TrainingArguments(output_dir, num_train_epochs=epochs),
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        mixnn={**recipes.robust(epochs=epochs), "mix_layer": "bert.embeddings"},
    )
    trainer.train()
    trainer.mixnn_loader.label_report()

Evaluation is as without. A checkpoint has the loader's state, and `resume_from_checkpoint` goes on with it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, DistributedSampler
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from mixnn_loader._utils.warn import warn_user
from mixnn_loader.data.indexed import COPIED_ARGUMENTS
from mixnn_loader.loader import MixNNDataLoader
from mixnn_loader.method.batch import MixNNBatch
from mixnn_loader.method.loss import MixNNLoss

last_checkpoint: Callable[[str], str | None] = get_last_checkpoint


class MixNNTrainer:
    """Wraps the Trainer's own training loader, and takes the loss of what it gives by `mixnn_loader.MixNNLoss`.

    It stands before the trainer among the bases, ``class NoisyTrainer(MixNNTrainer, Trainer)``.

    Args:
        *args: of the trainer.
        mixnn: arguments of `mixnn_loader.MixNNDataLoader`, such as a recipe. Of token ids ``mix_layer=`` is needed, the
            module that embeds all that depends on them, such as ``"bert.embeddings"``.
        criterion: the loss of a training batch; None: `mixnn_loader.MixNNLoss` by default.
        **kwargs: of the trainer.

    Raises:
        ValueError: there are several GPUs in one process.

    Attributes:
        mixnn_loader: the loader of the latest training; None before the first.
        mixnn_folder: where the latest checkpoint was written; in a search for hyper-parameters, each trial has its own.
        criterion: the loss.
    """

    # What the trainer has, which is not named among the bases so that the mixin goes with any that is derived from it.
    args: Any
    model: Any
    accelerator: Any
    compute_loss_func: Any
    _train_batch_size: int
    add_callback: Callable[[TrainerCallback], None]

    # The loss is the mean of a batch: the Trainer divides it by the steps of gradient accumulation.
    loss_is_scaled_for_ga = False

    def __init__(self, *args: Any, mixnn: Mapping[str, Any], criterion: MixNNLoss | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.n_gpu > 1:
            raise ValueError(
                f"{self.args.n_gpu} GPUs in one process, which divide batches: start a process for each by torchrun, "
                "or let CUDA_VISIBLE_DEVICES show one"
            )
        if criterion is None:
            if self.compute_loss_func is not None:
                raise ValueError(
                    "compute_loss_func= gets no mixed targets: pass criterion=MixNNLoss(base=...) with it for training"
                )
            criterion = MixNNLoss(label_smoothing=self.args.label_smoothing_factor)
        self.mixnn_loader: MixNNDataLoader | None = None
        self.criterion = criterion
        self._mixnn = dict(mixnn)
        self.mixnn_folder = Path(self.args.output_dir)
        self._mixnn_state: dict[str, Any] | None = None
        self.add_callback(_SaveLoader(self))
        # transformers before 5 asks this in place of `loss_is_scaled_for_ga`.
        self.model_accepts_loss_kwargs = False
        # The rest of an epoch is the loader's to find: what would be skipped is not there any more.
        self.args.ignore_data_skip = True

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train, from the start or from a checkpoint.

        Args:
            resume_from_checkpoint: as for the trainer.
            *args: of the trainer's method.
            **kwargs: likewise.

        Warns:
            UserWarning: the checkpoint has no state of the loader.
        """
        trainer: Any = super()
        found = resume_from_checkpoint
        folder = last_checkpoint(self.args.output_dir) if found is True else found
        self.mixnn_loader = self._mixnn_state = None
        if folder:
            file = _state_file(Path(folder), self.args)
            if file.exists():
                self._mixnn_state = torch.load(file, map_location="cpu", weights_only=True)
            else:
                warn_user(f"there is no {file}: what the loader knew when the checkpoint was written is lost")
        return trainer.train(resume_from_checkpoint, *args, **kwargs)

    def get_train_dataloader(self) -> Any:
        """Return the trainer's loader, wrapped; the same one for the whole of a training."""
        if self.mixnn_loader is not None and self.mixnn_loader.batch_size == self._train_batch_size:
            return self.mixnn_loader
        trainer: Any = super()
        try:  # what Accelerate makes of a loader has lost the dataset's indices
            self.accelerator.prepare = lambda loader: loader
            plain = trainer.get_train_dataloader()
        finally:
            del self.accelerator.prepare  # and the method is back
        if self.args.world_size > 1:
            plain = _divided(plain, self.args)
        self.mixnn_loader = MixNNDataLoader(plain, self.model, **self._mixnn)
        if self._mixnn_state is not None:
            self.mixnn_loader.load_state_dict(self._mixnn_state)
            self._mixnn_state = None
            steps = self.args.gradient_accumulation_steps
            if self.mixnn_loader.batch > 0 and len(self.mixnn_loader) % steps > 0:
                warn_user(
                    f"the rest of epoch {self.mixnn_loader.epoch} ends without an optimizer step: the Trainer looks "
                    f"for the last of {len(self.mixnn_loader)} batches, and they are no multiple of "
                    f"gradient_accumulation_steps={steps}. Resume from a checkpoint at the end of an epoch"
                )
        return self.mixnn_loader

    def _get_output_dir(self, *args: Any, **kwargs: Any) -> str:
        """Return the folder of the checkpoints, which the trainer asks for just before it writes one."""
        folder: str = super()._get_output_dir(*args, **kwargs)  # type: ignore[misc]  # the trainer beside it has it
        self.mixnn_folder = Path(folder)
        return folder

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        """Take the loss of a mixed batch; of others, as in evaluation, the trainer's own."""
        if not isinstance(inputs, MixNNBatch):
            trainer: Any = super()
            return trainer.compute_loss(model, inputs, return_outputs=return_outputs, **kwargs)
        outputs = model(**inputs) if isinstance(inputs.inputs, Mapping) else model(inputs.inputs)
        loss = self.criterion(outputs, inputs)
        return (loss, outputs) if return_outputs else loss


class _SaveLoader(TrainerCallback):
    """Puts the loader's state into every checkpoint."""

    def __init__(self, trainer: MixNNTrainer) -> None:
        self._trainer = trainer

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del control, kwargs
        if self._trainer.mixnn_loader is not None:
            folder = self._trainer.mixnn_folder / f"checkpoint-{state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)  # another process may have come first, or be on another machine
            torch.save(self._trainer.mixnn_loader.state_dict(), _state_file(folder, args))


def _state_file(folder: Path, args: Any) -> Path:
    return folder / ("mixnn_loader.pt" if args.world_size == 1 else f"mixnn_loader-{args.process_index}.pt")


def _divided(loader: DataLoader[Any], args: Any) -> DataLoader[Any]:
    """Return the loader of one of several processes, which the trainer would have made by preparing it."""
    seed = args.seed if args.data_seed is None else args.data_seed
    sampler: DistributedSampler[Any] = DistributedSampler(
        loader.dataset, args.world_size, args.process_index, seed=seed, drop_last=args.dataloader_drop_last
    )
    kept = {name: getattr(loader, name) for name in ("batch_size", "collate_fn", "drop_last", *COPIED_ARGUMENTS)}
    return DataLoader(loader.dataset, sampler=sampler, **kept)
