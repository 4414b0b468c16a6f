"""MixNN in a fastai Learner, on digits of which 40 % have a wrong label.

fastai takes PyTorch's loaders: MixNN's is the one for training, a plain one is for validation. `learn.lr_find()` before
the training costs no epoch of the schedule, as it puts the model back.

    python -m pip install -e ".[examples]" fastai
    python examples/fastai_learner.py
"""

from collections.abc import Sequence

import torch
from _digits import network, noisy_digits, parser_of, show_result
from fastai.callback.schedule import lr_find  # noqa: F401  (it gives the Learner its methods)
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.metrics import accuracy
from torch.utils.data import DataLoader

from mixnn_loader import MixNNDataLoader, MixNNLoss, recipes


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print the test accuracy and the share of training labels that are right."""
    args = parser_of(__doc__).parse_args(argv)
    torch.manual_seed(args.seed)
    digits, model = noisy_digits(args.seed), network()
    shuffled = DataLoader(digits.train, batch_size=64, shuffle=True)
    loader = MixNNDataLoader(shuffled, model, **recipes.robust(epochs=args.epochs), seed=args.seed)
    test = DataLoader(digits.test, batch_size=225)
    learn = Learner(DataLoaders(loader, test), model, loss_func=MixNNLoss(), metrics=accuracy)
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(args.epochs, 5e-3)
    show_result(model, loader, digits)


if __name__ == "__main__":
    main()
