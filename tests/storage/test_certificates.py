"""Certificates beside manifests: the footer and the table of a packing."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.errors import DataError
from balancer.selection.farthest_point import row_ids
from balancer.storage.certificates import (
    certificate_footer,
    read_packing,
    write_certificate,
    write_packing,
)
from balancer.storage.embedding_identity import embeddings_fingerprint, sum_row_digests
from balancer.storage.filesystem import Store
from tests.data.certified import made_embeddings, select_form


def test_packing_round_trip(root: str) -> None:
    store, ids = Store(), np.array(["b", "a", "ü"])
    file = write_packing(store, root, ids)
    assert file == write_packing(store, root, ids)
    assert file.name != write_packing(store, root, ids[:2]).name
    uri = store.join(root, file.name)
    assert read_packing(store, uri, sha256=file.sha256, rows=3).tolist() == ids.tolist()
    with pytest.raises(DataError, match="must have 4 rows; it has 3"):
        read_packing(store, uri, sha256=file.sha256, rows=4)
    with pytest.raises(DataError, match="must have the sha256"):
        read_packing(store, uri, sha256="0", rows=3)


def test_the_footer_names_the_table(root: str) -> None:
    ids, points = made_embeddings()
    found = select_form("random", points, ids)
    manifest = Store().join(root, "manifest.parquet")
    facts = write_certificate(Store(), manifest, found.certificate.to_json(), found.packing_ids)
    file = facts["certificate"]["packing"]["file"]
    assert file["rows"] == 21
    uri = Store().join(root, file["name"])
    stored = read_packing(Store(), uri, sha256=file["sha256"], rows=21)
    assert found.packing_ids is not None
    assert stored.tolist() == found.packing_ids.tolist()
    with pytest.raises(ValueError, match="if, and only if, the certificate's witness is a table"):
        write_certificate(Store(), manifest, found.certificate.to_json())


def test_a_witness_of_picks_needs_no_table(root: str) -> None:
    ids, points = made_embeddings()
    facts = select_form("farthest-point", points, ids).certificate.to_json()
    manifest = Store().join(root, "manifest.parquet")
    assert write_certificate(Store(), manifest, facts) == {"certificate": facts}
    assert write_certificate(Store(), manifest, None) == {}
    assert Store().list_files(root) == []
    with pytest.raises(ValueError, match="with all its rows"):
        certificate_footer(facts, write_packing(Store(), root, row_ids(21)))


def test_the_fingerprint_of_embeddings_is_of_their_content() -> None:
    ids, points = made_embeddings()
    order = np.random.default_rng(0).permutation(len(ids))
    whole = sum_row_digests(ids, points)
    assert whole == sum_row_digests(ids[order], points[order])
    assert whole != sum_row_digests(ids, points[order])
    assert whole != sum_row_digests(ids[order], points)
    nudged = points.copy()
    nudged[7, 2] = np.nextafter(nudged[7, 2], np.float32(9))
    assert whole != sum_row_digests(ids, nudged)
    assert embeddings_fingerprint(whole, 300).startswith("300-")
