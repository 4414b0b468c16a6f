"""Text: a transformer on token ids, learned with cross-entropy and with MixNN; 40 % of the labels are wrong.

Token ids cannot be averaged. What is mixed in the training step is what the embedding gives for them:
`mix_layer="embedding"`. The attention masks of texts that are mixed are united, which needs no argument.

    python -m pip install -e ".[examples]"
    python examples/text_transformer.py --seeds 0 1 2

The script makes the texts, nothing is downloaded. A text opens with a topic, which is its class, and goes on to another
one: which word stands where matters. Two words of three are of the topic, the others are any.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from _compare import RECIPES, Run, Task, compare, fit, parse_arguments
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from mixnn_loader import MixNNDataLoader, MixNNLoss
from mixnn_loader.noise import symmetric

NUM_CLASSES, WORDS_PER_TOPIC, NUM_TOKENS = 5, 40, 600  # the token 0 is padding
SHORTEST, LONGEST = 8, 20
NUM_TEST = 1000

Sample = tuple[dict[str, Tensor], Tensor]


class Texts(Dataset[Sample]):
    """Texts of several lengths: ``({"input_ids", "attention_mask"}, label)``, as a tokenizer gives them."""

    def __init__(self, texts: Sequence[Tensor], labels: Tensor) -> None:
        self.texts, self.labels = texts, labels

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Sample:
        ids = self.texts[index]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, self.labels[index]


def pad(samples: Sequence[Sample]) -> Sample:
    """Collate: fill texts up with zeros, which are padding in the ids and "not there" in the mask."""
    inputs = {
        name: pad_sequence([text[name] for text, _ in samples], batch_first=True)
        for name in ("input_ids", "attention_mask")
    }
    return inputs, torch.stack([label for _, label in samples])


class Classifier(nn.Module):
    """A small transformer encoder; the mean over its output goes to a linear layer."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        # Padding is a vector of zeros: where one of two texts has ended, the mix is the other one, but fainter.
        self.embedding = nn.Embedding(NUM_TOKENS, width, padding_idx=0)
        self.positions = nn.Parameter(0.5 * torch.randn(LONGEST, width))
        block = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=2 * width, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Linear(width, NUM_CLASSES)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Token ids and mask (B, L) -> logits (B, C)."""
        words = self.embedding(inputs["input_ids"])  # mixed here, while the model is trained
        # Positions are added afterwards. They are the same for both texts, and say where a mix of two words stands.
        words = words + self.positions[: words.shape[1]]
        mask = inputs["attention_mask"].bool()
        hidden = self.encoder(words, src_key_padding_mask=~mask).masked_fill(~mask.unsqueeze(2), 0)
        logits: Tensor = self.head(hidden.sum(dim=1) / mask.sum(dim=1, keepdim=True))
        return logits


def make_texts(seed: int, args: argparse.Namespace) -> Task:
    """Draw texts and their labels."""
    generator = torch.Generator().manual_seed(seed)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    texts = []
    true_labels = torch.randint(NUM_CLASSES, (args.samples + NUM_TEST,), generator=generator)
    for topic in true_labels.tolist():
        length, other_topic = integer(SHORTEST, LONGEST), (topic + integer(1, NUM_CLASSES - 1)) % NUM_CLASSES
        place = torch.arange(length) / length
        topics = torch.where(place < integer(60, 90) / 100, topic, other_topic)
        of_topic = 1 + WORDS_PER_TOPIC * topics + torch.randint(WORDS_PER_TOPIC, (length,), generator=generator)
        any_word = torch.randint(1, NUM_TOKENS, (length,), generator=generator)
        texts.append(torch.where(torch.rand(length, generator=generator) < 2 / 3, of_topic, any_word))

    known, unseen = slice(args.samples), slice(args.samples, None)
    given = symmetric(true_labels[known], 0.4, num_classes=NUM_CLASSES, seed=seed).labels
    return Task(Texts(texts[known], given), Texts(texts[unseen], true_labels[unseen]), given, true_labels[known])


def train(method: str, task: Task, seed: int, args: argparse.Namespace) -> Run:
    """Train one network; both methods have the same initial weights and the same order."""
    torch.manual_seed(seed)
    model = Classifier().to(args.device)
    order = torch.Generator().manual_seed(seed)

    loader: Any = DataLoader(task.train, batch_size=64, shuffle=True, generator=order, collate_fn=pad)
    criterion: nn.Module = nn.CrossEntropyLoss()
    if method == "MixNN":  # the two lines that change
        loader = MixNNDataLoader(loader, model, mix_layer="embedding", **RECIPES[args.recipe](epochs=args.epochs))
        criterion = MixNNLoss()
    return fit(model, loader, criterion, task, args)


def main(argv: Sequence[str] | None = None) -> None:
    """Train with both methods, and print the table."""
    compare(make_texts, train, parse_arguments(argv, __doc__, epochs=20, samples=2000, lr=1e-3))


if __name__ == "__main__":
    main()
