from __future__ import annotations

import statebridge.data


def test_public_names() -> None:
    assert sorted(statebridge.data.__all__) == [
        "DatasetRow",
        "FORMATS",
        "FieldMap",
        "generate_multihop",
        "iter_jsonl",
        "iter_multihop",
        "overlap",
        "read_dataset",
        "read_jsonl",
        "row_identity",
        "row_identity_sha256",
        "rows_sha256",
        "sha256_file",
        "verify_sha256",
        "write_jsonl",
    ]
    for name in statebridge.data.__all__:
        assert hasattr(statebridge.data, name)
