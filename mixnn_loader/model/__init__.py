"""The user's model, asked without being changed."""
