"""Everything that opens a URI: archives, tiles, embeddings, manifests, checkpoints, the ledger.

Modules:
    filesystem: `Store`, the one object that reads and writes local paths and `s3://`.
    uris: which URIs can be used, and where they point.
    object_store: connections to S3.
    failures: translation of what a file system raises into errors with a remedy.
    local_files: atomic and create-only writes on a local disk.
    decoding: one tile's bytes to pixels.
    sources: find the shards of an archive (folder, zip, WebDataset, Parquet).
    tile_shards: index a shard into a catalog table; duplicates; schemas.
    containers: the readers behind `tile_shards`, one per container format.
    parquet_tiles: the reader for Parquet.
    range_reads: few large reads instead of many small ones.
    tile_metadata: label, sidecar and column metadata as Arrow columns.
    tile_reader: read cataloged tiles back with few range requests.
    tables: Parquet tables with the same bytes every time, and their digests.
    embedding_shards: embeddings of a shard, and users' own vectors.
    embedding_identity: digest of embeddings' content; the encoder that a file names.
    manifests: published selections.
    certificates: their certificates, and the packings that prove them.
    checkpoints: encoders as safetensors and JSON.
    ledger: per-shard completion records; the whole resume story.

Nothing is imported here, so that `import balancer` stays quick.
"""
