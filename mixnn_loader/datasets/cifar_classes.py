"""Classes of CIFAR-10 and CIFAR-100, and which of them label noise confuses.

Source: https://www.cs.toronto.edu/~kriz/cifar.html. In both datasets a class's id is its rank in
alphabetical order, as in torchvision's ``CIFAR10(...).classes`` and ``CIFAR100(...).classes``.
"""

from collections.abc import Mapping
from types import MappingProxyType

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

CIFAR100_SUPERCLASSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
        "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
        "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
        "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
        "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
        "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
        "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
        "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
        "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
        "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
        "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
        "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
        "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
        "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
        "people": ("baby", "boy", "girl", "man", "woman"),
        "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
        "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
        "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
        "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
        "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
    }
)

CIFAR100_CLASSES = tuple(sorted(name for members in CIFAR100_SUPERCLASSES.values() for name in members))

CIFAR10_CONFUSIONS: Mapping[str, str] = MappingProxyType(
    {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}
)
"""True class -> class it is mistaken for (Patrini et al. 2017). The other five classes stay clean."""

CIFAR100_CONFUSIONS: Mapping[str, str] = MappingProxyType(
    {
        name: successor
        for members in CIFAR100_SUPERCLASSES.values()
        for name, successor in zip(members, members[1:] + members[:1], strict=True)
    }
)
"""Every class -> the next of its superclass, the last -> the first."""
