"""What the model has said of samples in the course of the training, as all processes know it."""

from typing import NamedTuple

from torch import Tensor

from mixnn_loader._utils.processes import Processes
from mixnn_loader._utils.transfer import to_device
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.share_rows import rows_of_all, share_column


class SampleHistory(NamedTuple):
    """What the model has said of n samples in training; NaN where it was never asked.

    Attributes:
        wrong_event_share: (n,) float32 on the CPU, how often it predicted another class than the given one.
        label_probability: (n,) float32 on the CPU, the mean probability of the given one.
    """

    wrong_event_share: Tensor
    label_probability: Tensor

    @classmethod
    def of(cls, table: SampleTable, rows: Tensor, processes: Processes) -> "SampleHistory":
        """Look it up. Of several processes, each has to; the table stays as it is.

        Args:
            table: the per-sample rows of this process.
            rows: (n,) int64 on the CPU, dataset indices.
            processes: which train together. Within an epoch, each has asked the model about samples of its own.
        """
        columns = [table.times_asked, table.wrong_events, table.probability_sums]
        if processes.size > 1:
            columns = [column.clone() for column in columns]
            news = rows_of_all(table.unshared_rows(), processes)
            for column in columns:
                share_column(column, news, processes)
        asked, wrong, sums = (column[to_device(rows, column.device)].cpu() for column in columns)
        return cls((wrong / asked).float(), (sums / asked).float())  # 0 / 0 is NaN
