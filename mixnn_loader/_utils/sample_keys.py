"""What the parts of a sample that is a mapping are usually called."""

INPUT_NAMES = ("image", "img", "pixel_values")
LABEL_NAMES = ("label", "labels")
"""What the columns of image datasets are called on the Hugging Face Hub, and by its image processors."""

TOKEN_NAMES = ("input_ids",)
"""What tokenizers call their ids, beside which there are masks and the like."""
