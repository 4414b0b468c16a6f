"""What comes before the first batch of an epoch, and after its last one."""

import logging

from mixnn_loader._utils.log import logger
from mixnn_loader._utils.warn import warn_user
from mixnn_loader.data.user_loader import length_of, num_samples
from mixnn_loader.run.epoch import Epoch
from mixnn_loader.run.observe import is_same_model
from mixnn_loader.run.parts import Parts


def open_epoch(parts: Parts, *, resumes: bool) -> Epoch:
    """Start an epoch, or go on with the one in progress; after warm-up, estimate once.

    Args:
        parts: what all passes share.
        resumes: whether the pass is the rest of one that was stopped.

    Raises:
        RuntimeError: the dataset's length has changed, the model gives no finite loss at all, or the processes are not
            at the same place.
    """
    _check_length(parts)
    parts.told.write()
    if not resumes:
        _catch_up(parts)
    now = parts.observer.fingerprint()
    has_corrected = any(record["phase"] == "correction" for record in parts.schedule.history)
    if not resumes and parts.schedule.rewind(now, is_same_model):
        logger.log(
            logging.WARNING if has_corrected else logging.INFO,  # no warning: a search for a learning rate does so
            "the model is as it was at the start of epoch %d, which comes again, with the labels as given%s",
            parts.schedule.number,
            ". To train a model anew on what they were corrected to, take CorrectedLabels.from_report() of a "
            "label_report() before, or call set_epoch() with the epoch to go on with"
            if has_corrected
            else "",
        )
        parts.table.forget(keep_drawn=parts.schedule.number > 0)
    epoch = parts.schedule.open()
    try:
        parts.told.check_last_epoch(epoch)
        parts.synchronizer.start(epoch)
        parts.table.to(parts.view.device)
        if not parts.settings.keeps_averages_in(epoch.phase):
            parts.table.drop("averages")
        # A look may have had it estimated, before the model was changed.
        is_old = epoch.trained == 0 and epoch.estimated_for is not None and not is_same_model(epoch.estimated_for, now)
        if epoch.phase != "warm-up" and (is_old or not epoch.is_estimated):
            if (estimated := parts.estimator.estimate(epoch)) is None:
                warn_user(
                    f"epoch {epoch.number} is one of warm-up, in which nothing is mixed: {parts.members.unknown()}"
                )
                epoch.leave_as_they_are()
            else:
                epoch.record |= estimated
                epoch.is_estimated, epoch.estimated_for = True, now
    except Exception:
        parts.schedule.withdraw(epoch)
        raise
    if epoch.trained == 0:
        epoch.start = now
    return epoch


def finish_epoch(parts: Parts, epoch: Epoch) -> None:
    """Count an epoch that has been trained for.

    Args:
        parts: what all passes share.
        epoch: the one in progress.
    """
    parts.synchronizer.note_shares(epoch)
    parts.schedule.finish(epoch)
    parts.observer.compare(epoch)


def _catch_up(parts: Parts) -> None:
    """Share what the pass before has learned, if it was left early; perhaps by this process alone."""
    epoch = parts.schedule.epoch
    most = parts.synchronizer.share()
    if epoch is None or most <= epoch.trained:
        return
    wanted, length = parts.settings.epoch_length, length_of(parts.wrapped)
    if most >= (wanted or (length or most) / 2):
        finish_epoch(parts, parts.schedule.open())


def _check_length(parts: Parts) -> None:
    if (length := num_samples(parts.wrapped)) != parts.num_samples:
        raise RuntimeError(
            f"the dataset had {parts.num_samples} samples and now has {length}; its length must not change "
            "while a MixNNDataLoader keeps a target for each"
        )
