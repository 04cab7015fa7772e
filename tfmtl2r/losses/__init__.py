"""Losses: one file each; ``names()`` lists them, ``get(name, **options)`` builds one."""

from tfmtl2r.registry import Registry

registry = Registry(__name__, "loss")
names, get, card = registry.names, registry.get, registry.card
