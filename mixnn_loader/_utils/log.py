"""The library's one logger, named like the package.

It gets no `logging.NullHandler`: a program that has not configured logging hears nothing at INFO either way, and the
warning before an allocation of gigabytes should reach standard error in such a program, too.
"""

import logging

logger = logging.getLogger("mixnn_loader")
