"""Architectures, from features to one score per task: one file each; ``get(name, **options)`` builds one."""

from tfmtl2r.registry import Registry

registry = Registry(__name__, "architecture")
names, get, card = registry.names, registry.get, registry.card
