"""Stores: lists in files from which a training reads one batch after the other, in little memory.

A store is a folder. It holds, for each split, *shards* of whole lists. A shard contains the numbers that a training
reads: looked-up features, labels and weights, row by row. The *manifest* is written last. It contains the tasks and the
schema with all statistics, what each split contains, and the size and the SHA-256 digest of every file.

:func:`tfmtl2r.data.store.writing.write_store` makes a store, and :func:`tfmtl2r.data.store.manifest.Manifest.open`
opens it.
"""
