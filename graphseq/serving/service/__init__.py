"""The HTTP service: clicks in, recommendations out; extra ``server``."""
