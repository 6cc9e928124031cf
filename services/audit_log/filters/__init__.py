"""Filters: Cloud Logging's query language, as far as it goes here."""

from services.audit_log.filters.bounds import time_bounds
from services.audit_log.filters.errors import FilterWrong
from services.audit_log.filters.evaluate import holds
from services.audit_log.filters.parse import parse
from services.audit_log.filters.tree import Node, text_of

__all__ = ["FilterWrong", "Node", "holds", "parse", "text_of", "time_bounds"]
