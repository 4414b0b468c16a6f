"""What the passes over one loader share."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributed import ProcessGroup
from torch.utils.data import DataLoader

from mixnn_loader._utils.processes import Processes
from mixnn_loader.checkpoint.position import ResumableBatches
from mixnn_loader.data.indexed import NeighborBatchSampler, rebuilt
from mixnn_loader.data.to_device import Receiver
from mixnn_loader.data.unpack import Unpack, resolve_unpack
from mixnn_loader.data.user_loader import num_samples
from mixnn_loader.method.input_rules import InputRules, Rules
from mixnn_loader.method.receipt import Journal
from mixnn_loader.model.hooks import FeatureLayer
from mixnn_loader.model.mix_layer import MixLayer, MixLayers
from mixnn_loader.model.predictor import ModelView
from mixnn_loader.model.prepare import Prepare
from mixnn_loader.run.columns import Layout
from mixnn_loader.run.dataset_scan import DatasetScan
from mixnn_loader.run.estimate import Estimator
from mixnn_loader.run.members import Members
from mixnn_loader.run.mix_batch import BatchMixer
from mixnn_loader.run.observe import Observer
from mixnn_loader.run.rehearse import Rehearsal
from mixnn_loader.run.sample_table import SampleTable
from mixnn_loader.run.schedule import Schedule
from mixnn_loader.run.settings import Settings
from mixnn_loader.run.synchronize import Synchronizer
from mixnn_loader.run.told import Told


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One of each.

    Attributes:
        settings: the hyper-parameters.
        wrapped: the user's loader.
        view: the model.
        processes: which train together.
        table: the per-sample rows.
        members: which samples take part.
        schedule: the epochs.
        journal: what the loss has seen.
        receiver: brings batches to the model's device.
        dataset_scan: step 1 over the whole dataset.
        estimator: steps 1 to 3.
        mixer: step 4.
        rules: how inputs are mixed.
        mix_layers: the layers whose output is mixed; None: there are none.
        synchronizer: the processes around an epoch.
        observer: what is seen of the training.
        rehearsal: tries once what comes late.
        batches: the user's batches, which can be resumed.
        batch_sampler: adds their neighbors.
        inner: the loader that loads them.
        num_samples: N, which must not change.
        told: what the loss tells of batches.
    """

    settings: Settings
    wrapped: DataLoader[Any]
    view: ModelView
    processes: Processes
    table: SampleTable
    members: Members
    schedule: Schedule
    journal: Journal
    receiver: Receiver
    dataset_scan: DatasetScan
    estimator: Estimator
    mixer: BatchMixer
    rules: InputRules
    mix_layers: MixLayers | None
    synchronizer: Synchronizer
    observer: Observer
    rehearsal: Rehearsal
    batches: ResumableBatches
    batch_sampler: NeighborBatchSampler
    inner: DataLoader[Any]
    num_samples: int
    told: Told


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user says besides the method's hyper-parameters, checked; see `mixnn_loader.MixNNDataLoader`."""

    scan_dataset: Any
    members: np.ndarray | None
    feature_layer: FeatureLayer | None
    num_classes: int | None
    unpack: Unpack | tuple[Any, Any] | None
    extras: bool
    prepare: Prepare | None
    mix_layer: MixLayer | None
    mix: Rules
    device: torch.device | str | None
    autocast_dtype: torch.dtype | None
    state_device: torch.device | None
    target_dtype: torch.dtype
    representation_dtype: torch.dtype
    process_group: ProcessGroup | None
    progress: bool


def assembled(wrapped: DataLoader[Any], model: nn.Module, settings: Settings, options: Options) -> Parts:
    """Build the parts for a run that has not started.

    Args:
        wrapped: the user's loader.
        model: the model being trained.
        settings: the hyper-parameters.
        options: everything else.

    Raises:
        TypeError, ValueError: an argument cannot be used.
        ImportError: a package that it needs is not installed.
    """
    view = ModelView(model, options.feature_layer, options.device, options.autocast_dtype, prepare=options.prepare)
    processes = Processes(options.process_group, lambda: view.device)
    layout = Layout(
        num_samples=num_samples(wrapped),
        pool_size=settings.table_width,
        device=options.state_device,
        target_dtype=options.target_dtype,
        representation_dtype=options.representation_dtype,
    )
    table = SampleTable(layout)
    table.to(view.device)
    if options.num_classes is not None:
        table.set_num_classes(options.num_classes)
    members = Members(wrapped, table, processes, options.members)
    known = members.known()
    settings.check_members(layout.num_samples if known is None else len(known))
    rules = InputRules(options.mix, has_layer=options.mix_layer is not None)
    mix_layers = None if options.mix_layer is None else MixLayers(model, options.mix_layer)
    receiver = Receiver(
        resolve_unpack(options.unpack), rules if settings.num_neighbors > 0 else None, extras=options.extras
    )
    journal, schedule, observer = Journal(), Schedule(settings), Observer(model, options.prepare)
    batches = ResumableBatches(wrapped)
    batch_sampler = NeighborBatchSampler(batches, settings.seed)
    scan_dataset = wrapped.dataset if options.scan_dataset is None else options.scan_dataset
    dataset_scan = DatasetScan(
        settings,
        view,
        receiver,
        members,
        loader=wrapped,
        dataset=scan_dataset,
        progress=options.progress,
        processes=processes,
    )
    return Parts(
        settings=settings,
        wrapped=wrapped,
        view=view,
        processes=processes,
        table=table,
        members=members,
        schedule=schedule,
        journal=journal,
        receiver=receiver,
        dataset_scan=dataset_scan,
        estimator=Estimator(settings, view, table, dataset_scan, processes),
        mixer=BatchMixer(settings, view, table, journal, rules),
        rules=rules,
        mix_layers=mix_layers,
        synchronizer=Synchronizer(processes, settings, view, table, wrapped),
        observer=observer,
        rehearsal=Rehearsal(settings, view, receiver, table, members, wrapped, scan_dataset, rules, mix_layers),
        batches=batches,
        batch_sampler=batch_sampler,
        inner=rebuilt(wrapped, wrapped.dataset, batch_sampler=batch_sampler),
        num_samples=layout.num_samples,
        told=Told(settings, table, schedule, journal, observer),
    )
