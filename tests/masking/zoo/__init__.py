"""Small models of the kinds people really have, each checked with every callback; ``python -m tests.masking.zoo``."""
