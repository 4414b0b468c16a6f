"""What is really going on in the training loop, as far as the model shows it."""

from typing import Any

from torch import Tensor, nn

from mixnn_loader._utils.log import logger
from mixnn_loader._utils.warn import warn_user
from mixnn_loader.model.fingerprint import fingerprint, same
from mixnn_loader.model.prepare import Prepare
from mixnn_loader.model.watch import Watch, difference_message
from mixnn_loader.run.epoch import Epoch


class Observer:
    """Watches the first training step, and whether the model changes in an epoch.

    Args:
        model: as the user has passed it.
        prepare: what the user says is done to a batch before the model.

    Attributes:
        changed_in_last_epoch: whether the model was seen to change between batches of the epoch that was compared last.
    """

    def __init__(self, model: nn.Module, prepare: Prepare | None) -> None:
        self._model = model
        self._prepare = prepare
        self._watch: Watch | None = None
        self._is_done = False
        self._warned_of_model = False
        self._is_in_loop = False
        self._has_changed = False
        self._unchanged = 0
        self.changed_in_last_epoch = False

    def begin(self, inputs: Any) -> None:
        """Start to watch the training step of a batch, unless one has been seen.

        Args:
            inputs: as they are handed out.
        """
        if not self._is_done:
            self._watch = Watch(self._model, inputs, self._prepare)

    @property
    def has_seen_step(self) -> bool:
        """Whether the model has got the batch, with gradients, since `begin`."""
        return self._watch is not None and self._watch.seen is not None

    def end(self) -> None:
        """Stop watching.

        Warns:
            UserWarning: the model got something else than the loader gave.
        """
        if self._watch is None:
            return
        watch, self._watch = self._watch, None
        watch.close()
        seen = watch.seen
        if seen is None:
            return
        self._is_done = True
        self._is_in_loop = seen.with_gradients
        logger.info("the first training step: the model was in %s mode", "train" if seen.training else "eval")
        if (message := difference_message(seen)) is not None:
            warn_user(message)

    def fingerprint(self) -> Tensor:
        """Return a few numbers that change when the model is trained."""
        return fingerprint(self._model)

    def change(self, epoch: Epoch) -> Tensor | None:
        """Look whether the model has changed in an epoch, after 1, 2, 4, ... of its batches until it has.

        Not only at its end: by then, a search for a learning rate has put the model back.

        Returns:
            The fingerprint of the model, the first time that it is another.
        """
        if epoch.changed or epoch.start is None or epoch.trained & (epoch.trained - 1):
            return None
        now = self.fingerprint()
        epoch.changed = not same(epoch.start, now)
        self._has_changed |= epoch.changed
        return now if epoch.changed else None

    def compare(self, epoch: Epoch) -> None:
        """Compare the model with that at the start of an epoch which has been trained for.

        Warns:
            UserWarning: once, if nothing has changed. Of a model that was seen in the first step, and has not changed
                as yet, one such epoch is let pass: its learning rate may have started at 0.
        """
        self.changed_in_last_epoch = epoch.changed
        if epoch.changed or epoch.start is None or epoch.start.numel() == 0:
            return
        if not same(epoch.start, self.fingerprint()):
            self._has_changed = True
            return
        if not bool(epoch.start.isfinite().all()):
            return  # it has diverged, which the loader says where it finds no finite loss
        self._unchanged += 1
        allowed = 1 if self._is_in_loop and not self._has_changed else 0
        if self._unchanged > allowed and not self._warned_of_model:
            self._warned_of_model = True
            warn_user(
                f"the model's parameters have not changed over epoch {epoch.number}: MixNN looks at a model that is "
                "not trained. If another one is, such as a copy or that of the next fold, call loader.reset(model) or "
                "build a new MixNNDataLoader for it. To look at batches without training, iterate under "
                "torch.no_grad(): this pass has counted as an epoch, loader.set_epoch() takes it back"
            )


def is_same_model(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two fingerprints are those of the same parameters; there must be some."""
    return one is not None and other is not None and one.numel() > 0 and same(one, other)
