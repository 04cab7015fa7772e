"""Data sets: one file each; ``names()`` lists them, ``get(name, **options)`` builds one."""

from tfmtl2r.registry import Registry

registry = Registry(__name__, "data set")
names, get, card = registry.names, registry.get, registry.card
