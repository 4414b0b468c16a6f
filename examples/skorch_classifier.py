"""MixNN in a scikit-learn estimator by skorch, on digits of which 40 % have a wrong label.

skorch makes its own DataLoader: `get_iterator` wraps the one for training. Its loss is taken of the targets as they
come. Everything else is as always: `fit`, `predict`, `score`, validation on a part of the data.

    python -m pip install -e ".[examples]" skorch
    python examples/skorch_classifier.py
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from _digits import network, noisy_digits, parser_of, show_result
from skorch import NeuralNetClassifier
from torch import Tensor

from mixnn_loader import MixNNDataLoader, MixNNLoss, MixNNTargets, recipes


class MixNNClassifier(NeuralNetClassifier):  # type: ignore[misc]  # skorch comes without types
    """A `NeuralNetClassifier` whose training batches are mixed.

    Attributes:
        loader_: the loader of the last `fit`, with what it has learned of each sample.
    """

    loader_: MixNNDataLoader

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Wrap the loader of training data; those of validation and prediction stay as they are."""
        iterator = super().get_iterator(dataset, training=training)
        if not training:
            return iterator
        self.loader_ = MixNNDataLoader(iterator, self.module_, **recipes.robust(epochs=self.max_epochs))
        return self.loader_

    def get_loss(self, y_pred: Tensor, y_true: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Take the loss of mixed targets as they are: they are on the model's device, and no tensor."""
        if isinstance(y_true, MixNNTargets):
            mixed: Tensor = self.criterion_(y_pred, y_true)
            return mixed
        plain: Tensor = super().get_loss(y_pred, y_true, *args, **kwargs)
        return plain


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print the test accuracy and the share of training labels that are right."""
    args = parser_of(__doc__).parse_args(argv)
    torch.manual_seed(args.seed)
    digits = noisy_digits(args.seed)
    classifier = MixNNClassifier(
        network,
        criterion=MixNNLoss,
        predict_nonlinearity=partial(torch.softmax, dim=-1),  # of MixNNLoss skorch does not know that it takes logits
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__weight_decay=5e-4,
        lr=0.05,
        max_epochs=args.epochs,
        batch_size=64,
        iterator_train__shuffle=True,
        train_split=None,  # with a part for validation, the loader's rows are those of the rest
        verbose=0,
    )
    images, labels = digits.train.tensors
    classifier.fit(images.numpy(), labels.numpy())
    show_result(classifier.module_, classifier.loader_, digits)


if __name__ == "__main__":
    main()
