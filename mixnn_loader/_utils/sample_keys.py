"""What the parts of a sample that is a mapping are usually called."""

INPUT_NAMES = ("image", "img", "pixel_values")
LABEL_NAMES = ("label", "labels")
"""What the columns of image datasets are called on the Hugging Face Hub, and by its image processors."""

TOKEN_NAMES = ("input_ids", "inputs_embeds", "input_values", "input_features")
"""What Hugging Face's tokenizers and feature extractors call what a model takes; masks and the like are beside it."""
