"""MixNN with Ignite's trainer, on digits of which 40 % have a wrong label.

Only the loader and the loss are others. The loader goes into the checkpoint with the model; the trainer's own state
says in which epoch it was.

    python -m pip install -e ".[examples]" pytorch-ignite
    python examples/ignite_trainer.py
    python examples/ignite_trainer.py --checkpoint digits.pt             # stop it after any epoch, and go on
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _digits import network, noisy_digits, parser_of, show_result
from ignite.engine import Engine, Events, create_supervised_trainer
from torch.utils.data import DataLoader

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print the test accuracy and the share of training labels that are right."""
    parser = parser_of(__doc__)
    parser.add_argument("--checkpoint", type=Path, help="written after each epoch; if it is there, gone on from")
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    digits, model = noisy_digits(args.seed), network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    shuffled = DataLoader(digits.train, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(args.seed))
    loader = MixNNDataLoader(shuffled, model, **recipes.robust(epochs=args.epochs), seed=args.seed)
    trainer = create_supervised_trainer(model, optimizer, MixNNLoss())
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "loader": loader, "trainer": trainer}

    if args.checkpoint is not None and args.checkpoint.exists():
        for name, state in torch.load(args.checkpoint, weights_only=True).items():
            parts[name].load_state_dict(state)

    @trainer.on(Events.EPOCH_COMPLETED)
    def save(_: Engine) -> None:
        if args.checkpoint is not None:
            file = args.checkpoint.with_suffix(".tmp")  # the one before stays whole until this one is
            torch.save({name: part.state_dict() for name, part in parts.items()}, file)
            file.replace(args.checkpoint)

    if trainer.state.epoch < args.epochs:  # Ignite starts one that has ended from its beginning
        trainer.run(loader, max_epochs=args.epochs)
    show_result(model, loader, digits)


if __name__ == "__main__":
    main()
