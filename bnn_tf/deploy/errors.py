"""Errors of deployment."""

from bnn_tf.errors import UserError


class ConversionError(UserError):
    """A model that cannot be converted faithfully; nothing was written."""
